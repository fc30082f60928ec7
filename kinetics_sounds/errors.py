"""Exceptions that a user may see; any other exception is a bug.

  KineticsSoundsError          says what is wrong, where, and what to do; commands print it and exit with 2
  ├── SettingsError            an invalid option or recipe
  ├── ClassListError           a class list that cannot be read or used
  ├── AnnotationError          an annotation CSV that cannot be read or used
  ├── ListError                a published list of clips that cannot be read or used
  ├── SourceError              a source that cannot be opened at all
  ├── ManifestError            a manifest that is missing, damaged or of another schema
  ├── ShardError               a shard set that is missing, damaged or of another schema
  │   └── BadSampleError       one damaged sample of a set; the others are usable
  ├── RemoteError              a URL that cannot be read or written, or the cache of its files
  ├── MediaError               a media tool that is missing or failed on a file
  ├── RunError                 a training run or checkpoint that is missing or does not fit
  ├── PublishError             a published folder that is missing, damaged, or must not be overwritten
  ├── FolderInUseError         a folder that another process writes to
  ├── StoppedError             work that stopped early after saving its results; commands exit with 3
  └── FaultError               an unforeseen fault of our code or of a machine; commands exit with 4
      └── LostRanksError       another rank ended or hangs

A video that is gone is not an error but an `Outcome` (see `clip.py`).
"""

BUG_BELOW = "this is a bug; please report it with these lines:"
"""Printed before the traceback of an unexpected exception of another process."""


class KineticsSoundsError(Exception):
    """Base class: the message says what is wrong, where, and what to do."""


class SettingsError(KineticsSoundsError):
    """An invalid option or recipe."""


class ClassListError(KineticsSoundsError):
    """A class list that cannot be read or used."""


class AnnotationError(KineticsSoundsError):
    """An annotation CSV that cannot be read or used."""


class ListError(KineticsSoundsError):
    """A published list of clips that cannot be read or used."""


class SourceError(KineticsSoundsError):
    """A source that cannot be opened at all."""


class ManifestError(KineticsSoundsError):
    """A manifest that is missing, damaged or of another schema."""


class ShardError(KineticsSoundsError):
    """A shard set that is missing, damaged or of another schema."""


class BadSampleError(ShardError):
    """One damaged sample of a set; the others are usable."""


class RemoteError(KineticsSoundsError):
    """A URL that cannot be read or written, or the cache of its files."""


class MediaError(KineticsSoundsError):
    """A media tool that is missing or failed on a file."""


class RunError(KineticsSoundsError):
    """A training run or checkpoint that is missing or does not fit."""


class PublishError(KineticsSoundsError):
    """A published folder that is missing, damaged, or must not be overwritten."""


class FolderInUseError(KineticsSoundsError):
    """A folder that another process writes to."""


class StoppedError(KineticsSoundsError):
    """Work that stopped early after saving its results: run again to resume."""


class FaultError(KineticsSoundsError):
    """An unforeseen fault of our code or of a machine; nothing is claimed about the results."""


class LostRanksError(FaultError):
    """Another rank of a run ended or hangs: a consequence of the original error."""


def first_line(error: Exception) -> str:
    """First line of an error's message, or its type: some libraries append screens of C++."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
