"""How a stage is mapped over clips: one file an executor, each with `run` as in `local.py`."""
