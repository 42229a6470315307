"""Regression checks: a stored baseline, and its comparison with new results."""
