"""What ks-publish is made of: `push` sends a folder to the Hub; `run` writes that of a training run, and `run_card` its card."""
