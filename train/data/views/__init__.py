"""Views: one random (or, for tests, fixed) rendering of a sample; one file a kind.

A view module has `Settings`, `check` (does a shard set suit it), `train_view` and `test_views` (in a worker: a
`stream.Sample` to arrays), `arrays` (shape and type of what these give) and `to_model` (on the device: arrays to what the
encoders take).
"""
