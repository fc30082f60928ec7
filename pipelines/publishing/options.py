"""Validated options of a published folder."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from kinetics_sounds.classes import ClassList
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.shards.index import Dataset

from ..list_origin import PAGE
from . import contents

CREATOR = "anonymous"
"""Default creator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """Options of a published folder; None: as in the existing folder, else a default."""

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
    """Name of the class list, made suitable as a folder name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", classes.name).strip("-._")[:96] or "set"


def checked_date(text: str | None) -> str | None:
    """The date itself; raises SettingsError if it is invalid."""
    try:
        return None if text is None else date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise SettingsError(f"--date {text}: is not a date ({error}); give one such as 2026-11-28") from error


def checked_name(text: str) -> str:
    """The name itself; raises SettingsError unless it can be a folder name."""
    if text == contents.COMMON:
        raise SettingsError(f"--name {text}: is reserved for ks-publish diff --out; give another")
    if not contents.NAME.fullmatch(text):
        raise SettingsError(
            f"--name {text!r}: give letters, digits, '.', '_' and '-' (at most 96), starting with a letter or digit"
        )
    return text


def checked_creator(text: str | None) -> str | None:
    """The creator's name itself; raises SettingsError unless it is one line of text."""
    if text is not None and (
        not 0 < len(text) <= 200 or any(unicodedata.category(each) in ("Cc", "Cs") for each in text)
    ):
        raise SettingsError(f"--creator {text[:100]!r}: is not a line of at most 200 characters")
    return text


def checked_url(text: str | None) -> str | None:
    """The URL itself; raises SettingsError if it is invalid, or contains a user name or password."""
    if text is not None and not PAGE.fullmatch(text):
        raise SettingsError(
            "--url: give the page of the set, such as https://example.org/k32, without user and password"
        )
    return text
