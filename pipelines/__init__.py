"""Commands that build datasets: annotations to clips, clips to shards, publishing and export, and the demo."""
