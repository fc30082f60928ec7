"""ks-export: from clips to the folders that other people's loaders read.

`job` says what is to be laid out; workers (`work`) make each clip's files, which `placing` gives their names; `journal` knows
what is there already. What the files are is a layout's to say (`layouts`).
"""
