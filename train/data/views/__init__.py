"""Views: what of a stored sample the encoders see; one file a kind, each a module that is an `interface.View`."""
