"""Zoos: trained networks with their weights, found by name."""
