"""Settings of a run, the shipped recipes, and the folder that a run is kept in."""
