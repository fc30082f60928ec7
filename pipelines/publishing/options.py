"""What a user may choose of a published folder, checked."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from kinetics_sounds.classes import ClassList
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.shards.index import Dataset

from . import contents

CREATOR = "anonymous"
"""Where none was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """What a user may choose; None: as in the folder that is there, else a default."""

    out: Path
    name: str
    version: str | None = None
    creator: str | None = None
    url: str | None = None
    license: str | None = None
    date: str | None = None
    shards: Dataset | None = None
    media: bool = False
    hashes: bool = True
    workers: int = 1
    timeout_seconds: float = 120.0


def default_name(classes: ClassList) -> str:
    """The class list's name as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", classes.name).strip("-._")[:96] or "set"


def checked_date(text: str | None) -> str | None:
    """A day as it is; raises SettingsError where it is none."""
    try:
        return None if text is None else date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise SettingsError(f"--date {text}: is no day ({error}); give one such as 2026-11-28") from error


def checked_name(text: str) -> str:
    """A name as it is; raises SettingsError where a folder cannot be called so."""
    if text == contents.COMMON:
        raise SettingsError(f"--name {text}: is what the splits of ks-publish diff --out are called; give another")
    if not contents.NAME.fullmatch(text):
        raise SettingsError(
            f"--name {text!r}: give letters, digits, '.', '_' and '-' (at most 96), none of the marks first"
        )
    return text


def checked_creator(text: str | None) -> str | None:
    """A name of somebody as it is; raises SettingsError where it is no line of text."""
    if text is not None and (
        not 0 < len(text) <= 200 or any(unicodedata.category(each) in ("Cc", "Cs") for each in text)
    ):
        raise SettingsError(f"--creator {text[:100]!r}: is no line of at most 200 characters")
    return text


def checked_url(text: str | None) -> str | None:
    """A page's address as it is; raises SettingsError where it is none, or holds a user or a password."""
    if text is not None and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[!-;=?-~]{0,400})?", text):
        raise SettingsError(
            "--url: give the page of the set, such as https://example.org/k32, without user and password"
        )
    return text
