"""Training logs, TensorBoard and picture panels."""
