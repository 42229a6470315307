"""One sweep becomes records."""
