"""Plain WebDataset tars with an index beside each: written once, read anywhere."""
