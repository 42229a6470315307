"""Networks with their weights, by name."""
