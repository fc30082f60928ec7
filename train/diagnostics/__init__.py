"""Diagnostics of torch and of distributed training; ks-doctor runs them in separate processes."""
