"""What ks-publish writes, compares and checks: published folders.

Top to bottom: `folder` writes one, `check` and `diff` read; `card`, `datasheet`, `croissant` say what it holds; `tables` are
its splits; `likeness` is what the hashes are made by.
"""
