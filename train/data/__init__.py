"""Data loading: from shards to batches. `views/` turn stored samples into model inputs."""
