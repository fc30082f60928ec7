"""Views: one random (or, for tests, fixed) rendering of a sample; one file a kind.

A view module has `Settings`, `PARTS` (what it reads of a sample), `check` (does a shard set suit it), `train_view` and
`test_views` (in a worker: bytes to arrays), `to_model` (on the device: arrays to what the encoders take).
"""
