"""Programs that build: annotations to clips, clips to shards, and the demo of the whole way."""
