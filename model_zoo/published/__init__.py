"""Checkpoints that others published, loaded as networks of this package by maps of their keys."""
