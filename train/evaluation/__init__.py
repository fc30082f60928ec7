"""Evaluation of a run's encoders: features for probes, fine-tuning, Grad-CAM, sound classification."""
