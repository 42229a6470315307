"""A matrix file becomes a frozen `Matrix`; every mistake is reported at once, with its line."""
