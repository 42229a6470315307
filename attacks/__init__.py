"""Adversarial attacks on segmentation networks: functions of tensors, one file each (contract in `attacks.base`)."""
