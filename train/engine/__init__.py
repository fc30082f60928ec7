"""The training loop: model construction, steps, checkpoints, resume, validation, metrics and benchmark."""
