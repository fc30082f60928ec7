"""Complaints of argparse and jsonargparse about options, in plain words."""

import difflib
import itertools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

UNKNOWN = re.compile(r"^unrecognized arguments: (.*)$")
REQUIRED = re.compile(r"^the following arguments are required: (\S+)$")
NO_VALUE = re.compile(r"^argument (--\S+): expected .*argument")
NEEDLESS_VALUE = re.compile(r"^argument (--\S+): ignored explicit argument '(.*)'$")
BAD_VALUE = re.compile(r'Parser key "([^"]+)": .*?(?:Got|Given) value: (.*)$')
BAD_GROUP = re.compile(r'^Parser key "([^"]+)": Unable to load config \'(.*?)\'')
SIMILAR = 0.75
"""Least similarity (difflib) of an option that is suggested."""
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    dict: "a mapping",
}
"""Types in plain words."""


def plain(
    complaint: str,
    shape: Mapping[str, Any],
    words: Sequence[str] = (),
    *,
    in_config: bool,
    chosen: Iterable[object] = (),
) -> str:
    """A complaint in plain words, on one line, if it is one of the usual ones; else as it is.

    `shape`: the type of each setting by name, nested for groups. `words`: the command line. `in_config`: it is about a config,
    where names have no dashes. `chosen`: values of settings; the options of a group that one of them, or a word, names are
    suggested first.
    """
    text = " ".join(complaint.split())
    dashes = "" if in_config else "--"
    if found := UNKNOWN.search(text):
        return _unknown(found[1], [f"--{name}" for name, _ in _flat(shape)], words, chosen)
    if found := REQUIRED.search(text):
        return f"--{found[1].removeprefix('--')}: is required"
    if found := NO_VALUE.search(text):
        return f"{found[1]}: needs a value"
    if found := NEEDLESS_VALUE.search(text):
        return f"{found[1]} {found[2]}: takes no value; leave it out"
    if found := BAD_GROUP.search(text):
        first = next((name for name, _ in _flat(shape) if name.startswith(f"{found[1]}.")), found[1])
        return f"--{found[1]} {found[2]}: is a group of options; give them one by one, such as --{first}"
    found = BAD_VALUE.search(text)
    hint = dict(_flat(shape)).get(found[1]) if found else None
    if found is None or hint is None:
        return text
    return f"{text[: found.start()]}{dashes}{found[1]} {found[2]}: must be {in_words(hint)}"


def in_words(hint: Any) -> str:  # noqa: ANN401 - any annotation
    """A type in plain words: int is "a whole number"."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"{', '.join(map(str, members[:-1]))} or {members[-1]}" if len(members) > 1 else str(members[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(in_words(each) for each in members if each is not types.NoneType)
    if origin in (list, tuple):
        return "a list"
    kind = origin or hint
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def names_a_word(text: str, words: Sequence[str]) -> bool:
    """Whether a complaint names an option, or quotes a value, that stands among the words of a command line."""
    parts = [
        part for word in words for part in (word.partition("=")[::2] if word.startswith("--") else (word,)) if part
    ]
    return any(part in text if part.startswith("--") else repr(part) in text for part in parts)


def _unknown(unknown: str, options: Sequence[str], words: Sequence[str], chosen: Iterable[object]) -> str:
    """Message for unknown arguments: the first unknown option and similar ones, or that a word is no option."""
    found = re.search(r"(?:^| )(--[^ =]+)", unknown)
    if not found:
        first = unknown.partition(" ")[0]
        in_two = any("/" in before and word == first for before, word in itertools.pairwise(words))
        hint = "; quote a path with spaces" if in_two else ""
        return f"{unknown}: is neither an option nor the value of one{hint}"
    close = difflib.get_close_matches(found[1], options, n=2, cutoff=SIMILAR)
    if not close:  # --lr, or --lrr, for --optim.lr
        last = {option: f"--{option.removeprefix('--').rpartition('.')[2]}" for option in options}
        same = difflib.get_close_matches(found[1], sorted(set(last.values())), n=1, cutoff=SIMILAR)
        close = [option for option in options if last[option] in same]
    groups = [*(word.rpartition("=")[2] for word in words), *map(str, chosen)]
    own = [f"--{group}.{found[1].removeprefix('--')}" for group in groups]
    close = list(dict.fromkeys([*(option for option in own if option in options), *close]))
    hint = f" (did you mean {' or '.join(close[:3])}?)" if close else ""
    return f"{found[1]}: there is no such option{hint}"


def _flat(shape: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their names on the command line, `optim.lr`."""
    for name, hint in shape.items():
        if isinstance(hint, Mapping):
            yield from _flat(hint, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint
