"""Protocols: versioned names for how an image is attacked and scored, one file each (contract in `protocols.base`)."""
