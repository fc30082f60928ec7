"""Publish, compare, check and upload datasets and training runs.

Datasets: `folder` writes the published folder, `check` and `diff` read it; `card`, `datasheet` and `croissant` are its documents,
`made_from` the lists that they name, `tables` its splits, and `likeness` their perceptual hashes. Training runs: `run` writes the
folder, `run_card` its card. `push` uploads either to the Hub.
"""
