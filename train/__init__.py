"""The trainer: the only folder that imports torch."""
