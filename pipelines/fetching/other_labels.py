"""Rows whose label is not in the class list: how many there are, and which are a class written otherwise."""

import difflib
from collections import Counter
from collections.abc import Collection, Mapping

from kinetics_sounds.quantities import first_of, plural

NAMED = 5
"""Number of labels that are named."""
SIMILAR = 0.85
"""Least similarity of a label to a class for which it may be a typo: `catt` is 0.857 like `cat`."""
MOST_LETTERS = 100
"""Maximum length of a label in a message."""


def told(rows: Mapping[str, int], classes: Collection[str]) -> str:
    """How many rows have such labels: `1 row has a label that is not in the class list: 'cat' (1)`; empty without rows.

    `rows`: the number of rows of each label.
    """
    if not rows:
        return ""
    count, names = sum(rows.values()), named(rows, classes)
    verb = "has a label that is" if count == 1 else "have labels that are"
    return f"{plural(count, 'row')} {verb} not in the class list{names and f': {names}'}"


def named(rows: Mapping[str, int], classes: Collection[str]) -> str:
    """The most frequent of such labels, with their rows; empty where they are many, as those of Kinetics are beside K32."""
    if len(rows) > max(NAMED, len(classes)):
        return ""
    return first_of((f"{_short(label)} ({count})" for label, count in Counter(rows).most_common()), NAMED)


def warning(rows: Mapping[str, int], classes: Collection[str]) -> str:
    """Which of such labels are like one of the class list; empty if none is. Typos are looked for among a few labels only."""
    like = alike(rows, classes) | (typos(rows, classes) if len(rows) <= NAMED else {})
    named = first_of((f"{_short(label)} (like {_short(like[label])})" for label in rows if label in like), NAMED)
    return named and f"rows left out, whose labels may be meant to be in the class list: {named}"


def alike(labels: Collection[str], classes: Collection[str]) -> dict[str, str]:
    """The class that a label is but for case, `_` or `-` for blanks, more blanks, or a plural s.

    Not for typos: labels of Kinetics differ by as little (`shaving head`, `shaking head`).
    """
    plain = {_plain(each): each for each in classes}
    return {label: plain[_plain(label)] for label in labels if _plain(label) in plain}


def typos(labels: Collection[str], classes: Collection[str]) -> dict[str, str]:
    """The class that a label is but for a letter or two (`dog barkin`), which may be a class of its own all the same."""
    near = {label: difflib.get_close_matches(label, classes, n=1, cutoff=SIMILAR) for label in labels}
    return {label: found[0] for label, found in near.items() if found}


def _plain(label: str) -> str:
    words = label.casefold().replace("_", " ").replace("-", " ").split()
    return " ".join(word.removesuffix("s") for word in words)


def _short(label: str) -> str:
    return repr(label if len(label) <= MOST_LETTERS else f"{label[:MOST_LETTERS]}…")
