"""What ks-publish writes, compares, checks and sends.

Of a build: `folder` writes the published folder, `check` and `diff` read such; `card`, `datasheet`, `croissant` say what it
holds; `tables` are its splits, `likeness` is what their hashes are made by. Of a training run: `run` writes its folder, and
`run_card` its card. `push` sends either to the Hub.
"""
