"""What is asked of a run besides the probes, one file each: `Settings` and `evaluate(parsed)`, which returns the exit code.

The file's name is the protocol's. A dictionary `GROUPS` of names and dataclasses has the options of other modules under their
names. `SCORES = False` says that its results have no scores. `by_default(before)` of a protocol that trains is what ks-train does
where no option is given. The first line of the file's docstring is what `ks-eval` says of it.
"""
