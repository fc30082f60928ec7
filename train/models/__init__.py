"""Networks: `backbones/` are encoders; heads sit between encoders and losses."""
