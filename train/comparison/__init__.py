"""The tables of `ks-train compare`."""
