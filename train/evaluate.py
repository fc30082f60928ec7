"""ks-eval: evaluate a run with probes, which share features, with one protocol that has its own options, or as a paper does.

Torch is imported only once it is needed.
"""

import itertools
import sys
from collections.abc import Sequence

from kinetics_sounds import cores, plugins
from kinetics_sounds.command import DONE, MISUSE, answering, command, has_torch, refuse_without_torch, tell_version
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import parse

PROBES = f"{__package__}.probes"
PROTOCOLS = f"{__package__}.evaluation.protocols"
_MORE = """       ks-eval --protocol NAME --run RUN --shards SHARDS [options]
       ks-eval --list [--protocol NAME]

  --protocol NAME  Evaluate as a paper does, on all folds of a data set, and print the paper's scores beside ours.
  --version        Print version and exit.
  --list           List these protocols, or one, with command, data, differences from the paper, and the papers' scores."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-eval`."""
    words = sys.argv[1:] if argv is None else argv
    if tell_version("ks-eval", words):
        return DONE
    if "--list" in words:
        return command("ks-eval", lambda: list_protocols(words))
    if any(word.partition("=")[0] == "--protocol" for word in words):
        return command("ks-eval", lambda: evaluate_as_paper(words))
    leading = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    asked = [name for word in leading for name in word.split(",") if name]
    if not asked:
        return command("ks-eval", lambda: _tell_usage(words))
    return command("ks-eval", lambda: evaluate(asked, words[len(leading) :]))


def names() -> list[str]:
    """Names of all probes and protocols."""
    return sorted([*plugins.names(PROBES), *plugins.names(PROTOCOLS)])


def _tell_usage(words: Sequence[str]) -> int:
    """Print what ks-eval can be asked for; returns the exit code, which is that of a mistake unless help was asked for."""
    with answering():
        print(f"usage: ks-eval {{{','.join(names())}}} [...] --run RUN [options]\n{_MORE}\n\n{_what_there_is()}")
    return DONE if words and words[0] in ("-h", "--help") else MISUSE


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
        "  ks-eval --protocol ucf101_avid_8 --run runs/avid_k400 --shards data/ucf101/shards",
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


def list_protocols(argv: Sequence[str]) -> int:
    """Print the papers' protocols, or the one that `--protocol` names; return the exit code."""
    from .evaluation import papers

    asked, rest = _split_off(argv, "--protocol")
    if others := [word for word in rest if word != "--list"]:
        raise SettingsError(f"--list: stands alone or with --protocol NAME, not with {' '.join(others)}")
    found = papers.list_every() if asked is None else papers.list_one(papers.find(asked))
    with answering():
        print(found)
    return DONE


def evaluate_as_paper(argv: Sequence[str]) -> int:
    """Run the paper's protocol that `--protocol` names, with further options of its evaluation; return the exit code.

    Raises SettingsError for an unknown name, or a probe named beside it.
    """
    from .evaluation import papers

    asked, rest = _split_off(argv, "--protocol")
    protocol = papers.find(asked or "")
    if rest and not rest[0].startswith("-"):
        raise SettingsError(f"{rest[0]}: --protocol {protocol.name} says what to evaluate by; leave one out")
    if not has_torch():
        refuse_without_torch("ks-eval")
    cores.wait_passively()
    if {"-h", "--help"}.intersection(rest):
        with answering():
            print(papers.head_of_help(protocol))
    from .evaluation import paper_run

    return paper_run.evaluate(protocol, rest)


def _split_off(argv: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """The value of an option, None if it is not given, and the other words; raises SettingsError if it has no value."""
    value, rest, words = None, [], iter(argv)
    for word in words:
        name, equals, given = word.partition("=")
        if name != option:
            rest.append(word)
        elif not (value := given if equals else next(words, "")) or value.startswith("-"):
            raise SettingsError(f"{option}: needs a name; list them with: ks-eval --list")
    return value, rest


if __name__ == "__main__":
    sys.exit(main())
