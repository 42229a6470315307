"""One `TrainCell` becomes weights."""
