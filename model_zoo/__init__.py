"""Segmentation networks with a common structure, one file per architecture (contract in `model_zoo.base`)."""
