"""What defenses share: training against an attack, transforms of images, certificates."""
