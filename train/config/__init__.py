"""Settings of a run, shipped recipes, and the run folder."""
