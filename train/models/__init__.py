"""Networks: `backbones/` encode, heads sit between encoders and losses."""
