"""`ks-train` and `python -m kinetics_sounds.train`: pretraining and its subcommands."""

import sys
from collections.abc import Sequence

from kinetics_sounds.command import command

from . import pretrain


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-train`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["compare"]:
        from .compare import compare

        return command("ks-train compare", lambda: compare(words[1:]))
    return pretrain.main(words)


if __name__ == "__main__":
    sys.exit(main())
