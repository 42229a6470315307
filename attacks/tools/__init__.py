"""Helpers shared by the attacks: losses, projections, random starts, budget checks and pass counts."""
