"""Helpers shared by the defenses: adversarial training, input transforms, certificates."""
