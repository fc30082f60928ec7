"""What a message must not tell: passwords and tokens inside URLs, and secrets that are known word by word."""

import re
import urllib.parse
from collections.abc import Iterable

HIDDEN = "***"
SHORTEST = 4
"""Letters of a secret that is looked for outside URLs: shorter ones are in every other word."""
TELLING = 8
"""Letters of a part of a query that is: shorter ones are words of the trade, `video` or `http`."""


def _pattern(ends: str) -> re.Pattern[str]:
    """A URL, in which none of the letters `ends` stands; `***` that was put there before ends before a full stop or quote."""
    hidden = r"\*\*\*(?=[.,:;)\]'\">]*(?:[\s\#]|$))"
    return re.compile(
        rf"""(?P<scheme>[a-z][a-z0-9+.-]*)://
             (?P<user>[^/?\#{ends}]*@)?
             (?P<host>[^/?\#{ends}]*)
             (?P<path>[^?\#{ends}]*)
             (?P<query>\?(?:{hidden}|[^\#{ends}]*))?
             (?P<fragment>\#(?:{hidden}|{f"[^{ends}]" if ends else "."}*))?""",
        flags=re.IGNORECASE | re.VERBOSE | re.DOTALL,
    )


_URL = _pattern(r"\s")
"""A URL within a text, to the next blank: whoever puts one between quotes has its last one hidden with a query."""
ONE = _pattern("")
"""A URL that ends where the text does: a user's may hold blanks and quotes."""
_NO_SCHEME = re.compile(r"\A(?://[^/]*|[^/]*:[^/]*)@")
"""The user part of an address whose scheme was forgotten."""
_QUOTABLE = re.compile(r"(?:%[0-9A-Fa-f]{2}|[^\w-])+", flags=re.ASCII)
"""What tools write in ways of their own: `'`, `\\'` and `%27` are one."""
_TEMPLATE = "{youtube_id}"
_TELLING_PATHS = re.compile(r"(?:.*\.)?googlevideo\.com(?::\d+)?", flags=re.IGNORECASE)
"""Hosts that are told the asker's address and a signature in the path too."""


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without any of `secrets`, longest first, and with scheme, host and path alone of any URL in it."""
    for secret in sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True):
        text = _as_written(secret).sub(HIDDEN, text)
    return _URL.sub(_without_secrets, text)


def redact_url(text: str) -> str:
    """One URL, or a text that ends with one, with scheme, host and path alone; `user:password@host` without user part."""
    return ONE.sub(_without_secrets, _NO_SCHEME.sub(f"{HIDDEN}@", text))


def _as_written(secret: str) -> re.Pattern[str]:
    """A secret, however what is neither letter nor digit in it is quoted."""
    words = _QUOTABLE.split(secret)
    if sum(map(len, words)) < SHORTEST:
        return re.compile(re.escape(secret))
    return re.compile(_QUOTABLE.pattern.join(map(re.escape, words)), flags=re.ASCII)


def _without_secrets(url: re.Match[str]) -> str:
    user = f"{HIDDEN}@" if url["user"] else ""
    path = f"/{HIDDEN}" if len(url["path"]) > 1 and _TELLING_PATHS.fullmatch(url["host"]) else url["path"]
    hidden = "".join(f"{mark}{HIDDEN}" for mark, part in (("?", url["query"]), ("#", url["fragment"])) if part)
    return f"{url['scheme']}://{user}{url['host']}{path}{hidden}"


def of_url(url: str) -> list[str]:
    """The secrets that a URL carries, as written and as meant: its user part and password, its query, its fragment.

    Of a query also each value and each piece of one, since some tools make a name of what follows the last slash: those that
    are long, and of pieces those that are no words. The place of a clip's id is no secret.
    """
    place, _, fragment = url.partition("#")
    place, _, query = place.partition("?")
    found = re.match(r"(?:[^/]*//)?([^/]*)@", place)
    user = found[1] if found else ""
    values = [pair.partition("=")[2] or pair for pair in re.split("[&;]", query)]
    values = [value for value in values if value != _TEMPLATE]
    parts = [
        part for part in (*values, fragment) for part in (part, urllib.parse.unquote(part)) if len(part) >= TELLING
    ]
    pieces = [
        piece for part in parts for piece in re.split(r"[^\w-]+", part) if len(piece) >= TELLING and _is_no_word(piece)
    ]
    whole = [user, user.partition(":")[2], query if values else "", fragment]
    words = dict.fromkeys([*whole, *map(urllib.parse.unquote, whole), *parts, *pieces])
    return sorted(filter(None, words), key=len, reverse=True)


def _is_no_word(piece: str) -> bool:
    """Whether a piece has a digit, or large letters among small ones."""
    return bool(re.search(r"\d", piece)) or not (piece.islower() or piece.isupper() or piece.istitle())
