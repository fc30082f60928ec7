"""What a message must not tell: passwords and tokens inside URLs, and secrets that are known word by word."""

import re
import urllib.parse
from collections.abc import Iterable

HIDDEN = "***"
SHORTEST = 4
"""Letters of a secret that is looked for outside URLs: shorter ones are in every other word."""


def _pattern(ends: str) -> re.Pattern[str]:
    """A URL, in which none of the letters `ends` stands; `***` that was put there before ends before a full stop or colon."""
    hidden = r"\*\*\*(?=[.,:;)\]]*(?:[\s\#]|$))"
    return re.compile(
        rf"""(?P<scheme>[a-z][a-z0-9+.-]*)://
             (?P<user>[^/?\#{ends}]*@)?
             (?P<host>[^/?\#{ends}]*)
             (?P<path>[^?\#{ends}]*)
             (?P<query>\?(?:{hidden}|[^\#{ends}]*))?
             (?P<fragment>\#(?:{hidden}|{f"[^{ends}]" if ends else "."}*))?""",
        flags=re.IGNORECASE | re.VERBOSE | re.DOTALL,
    )


_URL = _pattern(r"\s'\"<>")
ONE = _pattern("")
"""A URL that ends where the text does: a user's may hold blanks and quotes."""
_TELLING_PATHS = re.compile(r"(?:.*\.)?googlevideo\.com(?::\d+)?", flags=re.IGNORECASE)
"""Hosts that are told the asker's address and a signature in the path too."""


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without any of `secrets`, longest first, and with scheme, host and path alone of any URL in it."""
    for secret in sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URL.sub(_without_secrets, text)


def redact_url(text: str) -> str:
    """One URL, or a text that ends with one, with scheme, host and path alone."""
    return ONE.sub(_without_secrets, text)


def _without_secrets(url: re.Match[str]) -> str:
    user = f"{HIDDEN}@" if url["user"] else ""
    path = f"/{HIDDEN}" if len(url["path"]) > 1 and _TELLING_PATHS.fullmatch(url["host"]) else url["path"]
    hidden = "".join(f"{mark}{HIDDEN}" for mark, part in (("?", url["query"]), ("#", url["fragment"])) if part)
    return f"{url['scheme']}://{user}{url['host']}{path}{hidden}"


def of_url(url: str) -> list[str]:
    """The secrets that a URL carries, as written and as meant: its user part and password, its query, its fragment.

    Of a query also each value and each piece of one, since some tools make a name of what follows the last slash.
    """
    place, _, fragment = url.partition("#")
    place, _, query = place.partition("?")
    user, at, _ = place.rpartition("@")
    user = (user.partition("://")[2] or user) if at else ""
    values = [pair.partition("=")[2] or pair for pair in re.split("[&;]", query)]
    written = [user, user.partition(":")[2], query, *values, fragment]
    meant = [urllib.parse.unquote(word) for word in written]
    whole = [*values, fragment]
    pieces = [piece for text in (*whole, *map(urllib.parse.unquote, whole)) for piece in re.split(r"[^\w-]+", text)]
    found = (word for word in dict.fromkeys([*written, *meant, *pieces]) if word)
    return sorted(found, key=len, reverse=True)
