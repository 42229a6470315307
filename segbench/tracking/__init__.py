"""Trackers of experiments hear of a run: TensorBoard, MLflow, Weights & Biases, Trackio. Nothing is sent by default."""
