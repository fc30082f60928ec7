"""Weights that the authors of a paper published, converted to ours."""
