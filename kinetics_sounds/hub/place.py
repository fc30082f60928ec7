"""Places on the Hub: `hf://datasets/USER/NAME[@REVISION][/FOLDER]`, and `hf://USER/NAME` of a model."""

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
"""What stands before the name of a repository that is no model's: no user is called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository, or a folder in one."""

    kind: Literal["dataset", "model"]
    repo: str
    """USER/NAME."""
    revision: str | None = None
    """A branch, a tag or a commit; None: the main branch."""
    path: str = ""
    """Of a folder in it; empty: the whole."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return (
            f"hf://{'datasets/' * (self.kind == 'dataset')}{self.repo}{revision}{f'/{self.path}' if self.path else ''}"
        )

    def below(self, name: str) -> str:
        """Where a file of this name lies in the repository."""
        return f"{self.path}/{name}" if self.path else name


def is_hub(url: Address | str) -> bool:
    """Whether an address or a text names something on the Hub."""
    return str(url).lower().startswith("hf://")


def parse(url: Address | str) -> Place:
    """`hf://datasets/USER/NAME[@REVISION][/FOLDER]`, or `hf://USER/NAME` of a model; raises RemoteError for any other."""
    found = _PLACE.fullmatch(url.real if isinstance(url, Address) else url)
    path = found["path"].strip("/") if found else ""
    if not found or found["repo"].split("/")[0] in _OTHERS or not all(map(is_name, path.split("/") if path else ())):
        raise RemoteError(
            f"{Address(url)}: is no place on the Hub; give hf://datasets/USER/NAME, or hf://USER/NAME of a model"
        )
    kind: Literal["dataset", "model"] = "dataset" if found["datasets"] else "model"
    return Place(kind=kind, repo=found["repo"], revision=found["revision"], path=path)


def is_name(name: str) -> bool:
    """Whether a file or folder may be called so there."""
    return re.fullmatch(r"[\w.-]*[\w-][\w.-]*", name, flags=re.ASCII) is not None and name != ".git"
