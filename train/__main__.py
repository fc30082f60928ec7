"""`ks-train` and `python -m kinetics_sounds.train`: pretraining and its subcommands.

Options that do not need torch are handled before it is imported.
"""

import sys
from collections.abc import Sequence

from kinetics_sounds import cores
from kinetics_sounds.command import (
    DONE,
    answering,
    check_subcommand,
    command,
    has_torch,
    refuse_without_torch,
    tell_version,
)
from kinetics_sounds.interrupts import ended_by_interrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-train`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if tell_version("ks-train", words):
        return DONE
    if words == ["--list"]:
        return command("ks-train", _list)
    if code := command("ks-train", lambda: _check(words)):
        return code
    cores.wait_passively()
    if words[:1] == ["compare"]:
        with ended_by_interrupt():
            from .compare import compare

        return command("ks-train compare", lambda: compare(words[1:]))
    with ended_by_interrupt():
        from . import pretrain

    return pretrain.main(words)


def _check(words: Sequence[str]) -> int:
    """Refuse what can be refused without torch."""
    check_subcommand("ks-train", words, ("bench", "compare"))
    if not has_torch():
        refuse_without_torch("ks-train")
    return DONE


def _list() -> int:
    from .config import recipes

    with answering():
        print(recipes.list_every())
    return DONE


if __name__ == "__main__":
    sys.exit(main())
