"""From shards to batches: sampler, fetcher, workers, loader, prefetch; `views/` say what of a sample the encoders see."""
