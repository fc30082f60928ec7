"""The training loop and what it is made of: build, setup, step, trainer, checkpoint, resume, validate, metrics, bench."""
