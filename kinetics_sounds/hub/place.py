"""Locations on the Hub: `hf://datasets/USER/NAME[@REVISION][/FOLDER]`, and `hf://USER/NAME` for a model."""

import re
from dataclasses import dataclass
from typing import Literal

from ..address import Address
from ..errors import RemoteError

_NAME = r"[A-Za-z0-9_][\w.-]{0,95}"
_PLACE = re.compile(
    rf"hf://(?P<datasets>datasets/)?(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>refs/pr/\d+|[\w.-]+))?(?P<path>(?:/[^/]+)*)/?",
    flags=re.ASCII,
)
_OTHERS = ("datasets", "spaces", "models", "buckets", "kernels")
"""Prefixes of repositories that are not models; no user can have these names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository, or a folder of one."""

    kind: Literal["dataset", "model"]
    repo: str
    """USER/NAME."""
    revision: str | None = None
    """Branch, tag or commit; None: the main branch."""
    path: str = ""
    """Folder within the repository; empty: all of it."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return (
            f"hf://{'datasets/' * (self.kind == 'dataset')}{self.repo}{revision}{f'/{self.path}' if self.path else ''}"
        )

    def below(self, name: str) -> str:
        """Path of a file within the repository."""
        return f"{self.path}/{name}" if self.path else name


def is_hub(url: Address | str) -> bool:
    """Whether an address or a text refers to the Hub."""
    return str(url).lower().startswith("hf://")


def parse(url: Address | str) -> Place:
    """Parse `hf://datasets/USER/NAME[@REVISION][/FOLDER]` or `hf://USER/NAME` (a model); raises RemoteError otherwise."""
    found = _PLACE.fullmatch(url.real if isinstance(url, Address) else url)
    path = found["path"].strip("/") if found else ""
    if not found or found["repo"].split("/")[0] in _OTHERS or not all(map(is_name, path.split("/") if path else ())):
        raise RemoteError(
            f"{Address(url)}: is not a location on the Hub; give hf://datasets/USER/NAME, or hf://USER/NAME of a model"
        )
    kind: Literal["dataset", "model"] = "dataset" if found["datasets"] else "model"
    return Place(kind=kind, repo=found["repo"], revision=found["revision"], path=path)


def is_name(name: str) -> bool:
    """Whether this is a valid name of a file or folder there."""
    return re.fullmatch(r"[\w.-]*[\w-][\w.-]*", name, flags=re.ASCII) is not None and name != ".git"
