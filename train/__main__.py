"""`ks-train` and `python -m kinetics_sounds.train`: pretraining and its subcommands.

Options that do not need torch are handled before it is imported.
"""

import sys
from collections.abc import Sequence

from kinetics_sounds import cores
from kinetics_sounds.command import DONE, command, has_torch, refuse_without_torch, tell_version


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-train`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if tell_version("ks-train", words):
        return DONE
    if words == ["--list"]:
        return command("ks-train", _list)
    if not has_torch():
        return command("ks-train", lambda: refuse_without_torch("ks-train"))
    cores.wait_passively()
    if words[:1] == ["compare"]:
        from .compare import compare

        return command("ks-train compare", lambda: compare(words[1:]))
    from . import pretrain

    return pretrain.main(words)


def _list() -> int:
    from .config import recipes

    print(recipes.list_every())
    return DONE


if __name__ == "__main__":
    sys.exit(main())
