"""A `Matrix` becomes a `Plan`: cells, each with a digest of everything that can change its numbers."""
