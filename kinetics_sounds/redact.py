"""Remove secrets from messages: passwords and tokens inside URLs, and known secrets."""

import hashlib
import re
import urllib.parse
from collections.abc import Iterable

HIDDEN = "***"
SHORTEST = 4
"""Minimum length of a secret that is searched outside of URLs: shorter ones occur in ordinary words."""
TELLING = 8
"""Minimum length of a query parameter that counts as a secret: shorter ones are ordinary words, `video` or `http`."""


def _pattern(ends: str) -> re.Pattern[str]:
    """Pattern of a URL without any of the characters `ends`; an earlier `***` ends before a full stop or quote.

    A user part may contain slashes, question marks and `#` if no port can be meant: `user:pass/word@host`.
    """
    inside = f"[^{ends}]" if ends else "."
    hidden = r"\*\*\*(?=[.,:;)\]'\">]*(?:[\s\#]|$))"
    return re.compile(
        rf"""(?P<scheme>[a-z][a-z0-9+.-]*)://
             (?P<user>[^/?\#{ends}]*@|[^/:?\#\[{ends}]*:(?!\d*(?:[/?\#]|$)){inside}*@)?
             (?P<host>[^/?\#{ends}]*)
             (?P<path>[^?\#{ends}]*)
             (?P<query>\?(?:{hidden}|[^\#{ends}]*))?
             (?P<fragment>\#(?:{hidden}|{inside}*))?""",
        flags=re.IGNORECASE | re.VERBOSE | re.DOTALL,
    )


_URL = _pattern(r"\s")
"""A URL within a text, up to the next blank; a quote that closes it is hidden along with a query."""
ONE = _pattern("")
"""A URL up to the end of the text: one given by a user may contain blanks and quotes."""
_NO_SCHEME = re.compile(r"\A(?://[^/]*|[^/]*:[^/]*)@")
"""User part of an address without a scheme."""
_QUOTABLE = re.compile(r"(?:%[0-9A-Fa-f]{2}|[^\w-])+", flags=re.ASCII)
"""Characters that tools quote in different ways: `'`, `\\'` and `%27` are the same."""
_TEMPLATE = "{youtube_id}"
_TELLING_PATHS = re.compile(r"(?:.*\.)?googlevideo\.com(?::\d+)?", flags=re.IGNORECASE)
"""Hosts whose URL paths contain the client's address and a signature."""


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Text without any of `secrets` (longest first), and with every URL reduced to scheme, host and path."""
    for secret in sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True):
        text = _as_written(secret).sub(HIDDEN, text)
    return _URL.sub(_without_secrets, text)


def redact_url(text: str) -> str:
    """A URL, or a text that ends with one, reduced to scheme, host and path; `user:password@host` without the user part."""
    return ONE.sub(_without_secrets, _NO_SCHEME.sub(f"{HIDDEN}@", text))


def bare(text: str) -> str:
    """A URL without user part, query and fragment; any other text unchanged."""
    return ONE.sub(lambda url: f"{url['scheme']}://{url['host']}{url['path']}", text)


def digest(secret: str) -> str:
    """Eight hexadecimal digits of a secret's SHA-256, which tell apart what differs in it alone."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()[:8]


def query_digest(text: str) -> str:
    """Digest of a URL's query; empty if it has none, or a hidden one, and for a text that is no URL."""
    place, _, query = text.partition("#")[0].partition("?")
    return digest(query) if query and "://" in place and HIDDEN not in query else ""


def _as_written(secret: str) -> re.Pattern[str]:
    """Pattern of a secret, however its special characters are quoted."""
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
    """Secrets within a URL, both encoded and decoded: user name and password, query, fragment.

    Of a query also each value and each part of one, because some tools use the text after the last slash as a name: long values,
    and parts that do not look like words. The placeholder of a clip's ID is not a secret.
    """
    found = ONE.search(url)
    found = found if found and found["user"] else re.match(r"(?:[^/?#]*//)?(?P<user>[^/?#]*@)", url)
    user = found["user"].removesuffix("@") if found else ""
    place, _, fragment = url[found.end("user") if found else 0 :].partition("#")
    query = place.partition("?")[2]
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
    """Whether a part contains a digit, or upper case letters among lower case ones."""
    return bool(re.search(r"\d", piece)) or not (piece.islower() or piece.isupper() or piece.istitle())
