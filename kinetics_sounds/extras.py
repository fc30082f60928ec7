"""How this package and its extras are installed."""

DISTRIBUTION = "kinetics-sounds"
"""Name of this package for pip."""


def pip_install(extra: str = "", *, comment: bool = False) -> str:
    """The command that installs this package with an extra, and from a clone; with `comment` as a line of a shell."""
    brackets = f"[{extra}]" if extra else ""
    clone = f"until it is on a package index, from a clone: pip install '.{brackets}'"
    return f"pip install '{DISTRIBUTION}{brackets}'" + (f"    # {clone}" if comment else f" ({clone})")
