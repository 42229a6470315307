"""A baseline, and the check that nothing became worse than it."""
