"""Where clips come from: one file a source, tried in the order given."""

from pathlib import Path
from typing import Protocol

from .. import plugins
from ..clip import Clip, Fetched
from ..errors import SourceError


class Source(Protocol):
    """A place that may have a clip. Built from what follows the colon in `--source NAME:ARGUMENT`."""

    notice: str
    """What the user must know before the first use; empty where there is nothing to say."""
    versions: str
    """The tools that fetch, with their versions; empty where there are none."""

    def locate(self, clip: Clip) -> str | None:
        """Where this source would look for a clip, or None where it has none; asks no network. Runs in the driver."""

    def fetch(self, clip: Clip, location: str, folder: Path) -> Fetched:
        """Get the clip's file, into `folder` if it must be made. Runs in a worker; bad luck is a status, not an error."""


def load(spec: str) -> Source:
    """The source named by `NAME` or `NAME:ARGUMENT`; raises SettingsError or SourceError where there is none."""
    name, _, argument = spec.partition(":")
    if spec and Path(spec).exists() and name not in plugins.names(__name__):
        raise SourceError(f"--source {spec}: a folder is named as local:{spec}")
    source: Source = plugins.load(__name__, name).Source(argument)
    return source
