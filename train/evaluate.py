"""ks-eval: evaluate a run with probes, which share frozen features, or with one protocol that has its own options.

Torch is imported only once it is needed.
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
    leading = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    asked = [name for word in leading for name in word.split(",") if name]
    if not asked:
        print(f"usage: ks-eval {{{','.join(names())}}} [...] --run RUN [options]\n\n{_what_there_is()}")
        return DONE if words and words[0] in ("-h", "--help") else MISUSE
    return command("ks-eval", lambda: evaluate(asked, words[len(leading) :]))


def names() -> list[str]:
    """Names of all probes and protocols."""
    return sorted([*plugins.names(PROBES), *plugins.names(PROTOCOLS)])


def _what_there_is() -> str:
    """List all probes and protocols, one per line, with usage examples."""
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
    """First docstring line of each module of a package."""
    lines = []
    for name, first in plugins.first_lines(package).items():
        line = first.removeprefix(f"ks-eval {name}: ")
        lines.append(f"  {name:12} {line[:1].upper()}{line[1:]}")
    return lines


def evaluate(asked: Sequence[str], argv: Sequence[str]) -> int:
    """Run the named probes, or the one named protocol; return the exit code.

    Raises SettingsError for an unknown name, or a protocol named together with others.
    """
    protocols = plugins.names(PROTOCOLS)
    for name in asked:
        if name not in names():
            raise SettingsError(
                f"there is no {name!r}; available: {', '.join(names())}{plugins.nearest(name, names())}"
            )
        if name in protocols and len(asked) > 1:
            raise SettingsError(f"{name}: has its own options; run it alone")
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
