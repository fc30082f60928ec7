"""Addresses (URLs and paths) that may contain secrets: they are always written without user part, query and fragment.

Each of these parts is replaced by `***`, in `config.yaml` as in messages. A user may pass such a masked address; the environment
variable `KS_ADDRESSES` then supplies the full one, so that neither a command line nor a shared file contains it.
"""

import os
import re
import stat
from collections.abc import Iterable
from functools import total_ordering
from pathlib import Path

from . import redact
from .errors import SettingsError

VARIABLE = "KS_ADDRESSES"
"""Full addresses separated by spaces, or the path of a file with one per line that only its owner can read."""
NOTE = (
    f"# *** in an address hides a secret, which is not stored here. To use this file again, pass the option, or set\n"
    f"# {VARIABLE} to the full address, or to a file (mode 0600) with it on a line of its own.\n"
)
"""Comment added to files that contain a masked address."""
MOST_BYTES = 64 << 10
"""Maximum size of the file of addresses, in bytes."""
HELP = (
    f"*** in an address hides its user part, query or fragment; {VARIABLE} holds the full address, or names a file\n"
    "(mode 0600) with it on a line of its own."
)
"""Epilog of `--help` for commands with an address option."""


@total_ordering
class Address:
    """A URL, a path, or a text that contains a URL, as given by the user.

    Converted to text (str, repr, format) it is masked, and JSON rejects it; `real` returns the full text.
    """

    __slots__ = ("_text",)

    def __init__(self, text: "str | Address") -> None:
        """Raises TypeError if `text` is neither text nor an address."""
        if not isinstance(text, str | Address):
            raise TypeError(f"{type(text).__name__} is not an address")
        self._text: str = text._text if isinstance(text, Address) else text

    @property
    def real(self) -> str:
        """The full text; raises SettingsError if `***` in it is not resolved by `KS_ADDRESSES`."""
        return redact.ONE.sub(_in_full, self._text) if redact.HIDDEN in self._text else self._text

    @property
    def secrets(self) -> list[str]:
        """The parts that no message may contain, longest first."""
        return redact.of_url(self.real)

    @property
    def has_user(self) -> bool:
        """Whether it is a URL with a user part."""
        found = redact.ONE.search(self._text)
        return found is not None and found["user"] is not None

    @property
    def query_digest(self) -> str:
        """Digest of a URL's query, see `redact.query_digest`."""
        return redact.query_digest(self._text)

    def __str__(self) -> str:
        return redact.redact_url(self._text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self._text == other._text

    def __lt__(self, other: object) -> bool:
        return self._text < other._text if isinstance(other, Address) else NotImplemented

    def __hash__(self) -> int:
        return hash((Address, self._text))

    def __copy__(self) -> "Address":
        return self

    def __deepcopy__(self, _memo: object) -> "Address":
        return self

    def __reduce__(self) -> "tuple[type[Address], tuple[str]]":
        try:
            return Address, (self.real,)  # another machine has another environment
        except SettingsError:  # which whoever asks for all of it there is told
            return Address, (self._text,)


def _in_full(found: re.Match[str]) -> str:
    """Full address for a URL with `***` in it; any other URL is returned unchanged."""
    if redact.HIDDEN not in found[0]:
        return found[0]
    fit = sorted({each for each in _known() if redact.redact_url(each) == found[0]})
    if len(fit) != 1:
        lacks = "has no" if not fit else f"has {len(fit)}"
        raise SettingsError(
            f"{found[0]}: *** hides a secret, and {VARIABLE} {lacks} such address; give the full address, or set "
            f"{VARIABLE} to it, or to a file that only you can read with it on a line of its own"
        )
    return fit[0]


def _known() -> list[str]:
    """The full addresses of the environment."""
    text = os.environ.get(VARIABLE, "")
    if not text or "://" in text:
        return _urls(text.split())
    place = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises where nobody has that name
    try:
        with place.open(encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SettingsError(f"{VARIABLE}: {place} is accessible to others; chmod 600 it")
            lines = file.read(MOST_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{VARIABLE}: {place} cannot be read: {reason}") from None
    if len(lines) > MOST_BYTES:
        raise SettingsError(f"{VARIABLE}: {place} is longer than {MOST_BYTES >> 10} KiB; keep only addresses in it")
    return _urls(lines.splitlines())


def _urls(words: Iterable[str]) -> list[str]:
    """The URL of each word that contains one; a source name such as `youtube:` may precede it."""
    return [found[0].rstrip() for found in map(redact.ONE.search, words) if found]
