"""What a message must not tell: passwords and tokens inside URLs, and secrets that are known word by word."""

import re
import urllib.parse
from collections.abc import Iterable

HIDDEN = "***"
SHORTEST = 4
"""Letters of a secret that is looked for outside URLs: shorter ones are in every other word."""
_URL = re.compile(
    r"""(?P<scheme>[a-z][a-z0-9+.-]*)://
        (?P<user>[^\s/?\#'"<>]*@)?
        (?P<host>[^\s/?\#'"<>]*)
        (?P<path>[^\s?\#'"<>]*)
        (?P<query>\?[^\s\#'"<>]*)?
        (?P<fragment>\#[^\s'"<>]*)?""",
    flags=re.IGNORECASE | re.VERBOSE,
)
_TELLING_PATHS = re.compile(r"(?:.*\.)?googlevideo\.com(?::\d+)?", flags=re.IGNORECASE)
"""Hosts that are told the asker's address and a signature in the path too."""


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without any of `secrets`, longest first, and with scheme, host and path alone of any URL in it."""
    for secret in sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URL.sub(_without_secrets, text)


def _without_secrets(url: re.Match[str]) -> str:
    user = f"{HIDDEN}@" if url["user"] else ""
    path = f"/{HIDDEN}" if len(url["path"]) > 1 and _TELLING_PATHS.fullmatch(url["host"]) else url["path"]
    hidden = "".join(f"{mark}{HIDDEN}" for mark, part in (("?", url["query"]), ("#", url["fragment"])) if part)
    return f"{url['scheme']}://{user}{url['host']}{path}{hidden}"


def of_url(url: str) -> list[str]:
    """The secrets that a URL carries: its user part and its password, as written and as meant."""
    user, at, _ = url.rpartition("@")
    if not at:
        return []
    user = user.partition("://")[2] or user
    password = user.partition(":")[2]
    written = [user, password] if password else [user]
    return [*written, *(urllib.parse.unquote(word) for word in written)]
