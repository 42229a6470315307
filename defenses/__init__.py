"""Defenses: training methods and inference-time defenses, one file each (contract in `defenses.base`)."""
