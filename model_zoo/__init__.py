"""Segmentation networks with a common anatomy, one file per architecture (contract in `model_zoo.base`)."""
