"""Defenses: training methods and inference-time wrappers, one file each (contract in `defenses.base`)."""
