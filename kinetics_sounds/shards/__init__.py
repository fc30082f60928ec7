"""Shard sets: plain WebDataset tars, each with an index file beside it."""
