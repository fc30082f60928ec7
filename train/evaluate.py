"""ks-eval: judge a run by probes, which share the features of its frozen encoders, or by a protocol with options of its own.

Nothing here imports torch before it is known what is asked.
"""

import itertools
import sys
from collections.abc import Sequence

from kinetics_sounds import cores, plugins
from kinetics_sounds.command import DONE, MISUSE, command, has_torch, refuse_without_torch, tell_version
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import parse

PROBES = f"{__package__}.probes"
PROTOCOLS = f"{__package__}.evaluation.protocols"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-eval`."""
    words = sys.argv[1:] if argv is None else argv
    if tell_version("ks-eval", words):
        return DONE
    asked = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    if not asked:
        print(f"usage: ks-eval {{{','.join(names())}}} [...] --run RUN [options]\n\n{_what_there_is()}")
        return DONE if words and words[0] in ("-h", "--help") else MISUSE
    return command("ks-eval", lambda: evaluate(asked, words[len(asked) :]))


def names() -> list[str]:
    """Everything that can be asked of a run: probes and protocols."""
    return sorted([*plugins.names(PROBES), *plugins.names(PROTOCOLS)])


def _what_there_is() -> str:
    """Everything that can be asked, a line each, and how."""
    lines = [
        "Probes of frozen features, several at once:",
        *_first_lines(PROBES),
        "",
        "Protocols with options of their own:",
        *_first_lines(PROTOCOLS),
        "",
        "Examples:",
        "  ks-eval linear knn crossmodal --run runs/avcl_k32_recommended",
        "  ks-eval finetune --run runs/avcl_k32",
        "  ks-eval linear --help",
    ]
    return "\n".join(lines)


def _first_lines(package: str) -> list[str]:
    """What the modules of a package say of themselves first."""
    lines = []
    for name, first in plugins.first_lines(package).items():
        line = first.removeprefix(f"ks-eval {name}: ")
        lines.append(f"  {name:12} {line[:1].upper()}{line[1:]}")
    return lines


def evaluate(asked: Sequence[str], argv: Sequence[str]) -> int:
    """Run the probes, or the one protocol, of these names; returns the exit code.

    Raises SettingsError where there is no such thing.
    """
    protocols = plugins.names(PROTOCOLS)
    for name in asked:
        if name not in names():
            raise SettingsError(
                f"nothing is called {name!r}; there are: {', '.join(names())}{plugins.nearest(name, names())}"
            )
        if name in protocols and len(asked) > 1:
            raise SettingsError(f"{name}: has options of its own; ask for it alone")
    if not has_torch():
        refuse_without_torch("ks-eval")
    cores.wait_passively()
    if asked[0] not in protocols:
        from .evaluation import frozen

        return frozen.evaluate({name: plugins.load(PROBES, name) for name in asked}, argv)
    protocol = plugins.load(PROTOCOLS, asked[0])
    groups = getattr(protocol, "GROUPS", {})
    code: int = protocol.evaluate(parse(protocol.Settings, argv, prog=f"ks-eval {asked[0]}", groups=groups))
    return code


if __name__ == "__main__":
    sys.exit(main())
