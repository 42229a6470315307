"""Datasets: images, masks, class names, splits and a fingerprint, one file each (contract in `datasets.base`)."""
