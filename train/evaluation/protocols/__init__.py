"""Evaluation protocols besides the probes, one module each: `Settings` and `evaluate(parsed)`, which returns the exit code.

The module's name is the protocol's. Optional: `GROUPS`, a dict of names and dataclasses with options of other modules; `SCORES
= False` if the results contain no scores; `by_default(before)`, the default ks-train settings of a protocol that trains. The
first line of the module's docstring is shown by `ks-eval`.
"""
