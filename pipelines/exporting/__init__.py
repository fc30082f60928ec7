"""ks-export: export clips to the folder formats of other projects' loaders.

`job` determines the clips to export; workers (`work`) make each clip's files, `placing` moves them into place, and `journal`
records them. The file formats are defined by the layouts (`layouts`).
"""
