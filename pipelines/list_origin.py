"""What a published folder says of itself, for the report of a build from its lists and for documents made of that report.

The folder may be a stranger's: only short texts of one line are taken, and addresses only if they are web pages.
"""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from kinetics_sounds import files

MAX_BYTES = 64 << 20
"""Maximum size of a document in bytes."""
MOST_LETTERS = 200
"""Maximum length of a text; longer ones are cut."""
MOST_OF_ORIGIN = 2000
"""The same of what the folder was made from, which may name several others."""
PAGE = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[!-;=?-~]{0,400})?")
"""A web page: an address without user name and password."""
FIELDS = ("name", "version", "creator", "url", "license", "made_from")
"""What is known of a published folder; `made_from`: in words, the lists that it was made from itself."""
ADDRESSES = ("url", "license")
"""Those of `FIELDS` that are web pages."""


def of_folder(folder: Path) -> dict[str, str]:
    """What a published folder's documents say, as far as they can be read; without a name there, the folder's."""
    fingerprints, croissant = (_read(folder / name) for name in ("fingerprints.json", "croissant.json"))
    creator = croissant.get("creator")
    said = {
        "name": fingerprints.get("name"),
        "version": fingerprints.get("version"),
        "creator": creator.get("name") if isinstance(creator, dict) else None,
        "url": croissant.get("url"),
        "license": croissant.get("license"),
        "made_from": croissant.get("creditText"),
    }
    return checked({"name": folder.name}) | checked(said)


def checked(said: Mapping[str, object]) -> dict[str, str]:
    """The valid texts of `FIELDS`."""
    texts = {name: text for name in FIELDS if isinstance(text := said.get(name), str) and _is_line(text)}
    return {
        name: text if name in ADDRESSES else text[: MOST_OF_ORIGIN if name == "made_from" else MOST_LETTERS]
        for name, text in texts.items()
        if name not in ADDRESSES or PAGE.fullmatch(text)
    }


def _is_line(text: str) -> bool:
    """Whether a text is not empty, and has no control characters."""
    return bool(text.strip()) and not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def _read(path: Path) -> dict[str, object]:
    """A JSON object; empty if it cannot be read."""
    try:
        found = files.read_json(path, most_bytes=MAX_BYTES)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
