"""A `Plan` becomes records, on processes of this machine."""
