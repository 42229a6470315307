"""Metrics beside mIoU, from what was counted on every image: definitions, and one registry of their names."""
