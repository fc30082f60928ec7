"""The exceptions a user can meet; a bug is any other.

    KineticsSoundsError          names the thing, the place and the remedy; commands print it and exit 2
    ├── SettingsError            an option or recipe that cannot be
    ├── ClassListError           a class list that cannot be read or used
    ├── AnnotationError          an annotation CSV that cannot be read or used
    ├── ListError                a published list of clips that cannot be read or used
    ├── SourceError              a source that cannot be opened at all
    ├── ManifestError            a manifest that is missing, damaged or of another schema
    ├── ShardError               a shard set that is missing, damaged or of another schema
    │   └── BadSampleError       one sample of a set whose bytes are wrong: it can be done without
    ├── RemoteError              a URL that cannot be read or written, or a cache of what lies there
    ├── MediaError               a media tool that is missing or failed on a file
    ├── RunError                 a training run or checkpoint that is missing or does not fit
    ├── PublishError             a published folder that is missing, damaged, or not to be written over
    ├── FolderInUseError         a folder that another process writes to
    ├── StoppedError             work that ended early after saving what was done; commands exit 3
    └── FaultError               a fault of ours or of a machine that nobody foresaw; commands exit 4
        └── LostRanksError       another rank ended or hangs

A video that is gone is not an error but an `Outcome` (see `clip.py`).
"""

BUG_BELOW = "this is a bug; please report it with these lines:"
"""What comes before the traceback of an exception that nobody foresaw, in another process."""


class KineticsSoundsError(Exception):
    """Base of all: its text names the thing, the place and the remedy."""


class SettingsError(KineticsSoundsError):
    """An option or recipe that cannot be."""


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
    """One sample of a set whose bytes are wrong: it can be done without."""


class RemoteError(KineticsSoundsError):
    """A URL that cannot be read or written, or a cache of what lies there."""


class MediaError(KineticsSoundsError):
    """A media tool that is missing or failed on a file."""


class RunError(KineticsSoundsError):
    """A training run or checkpoint that is missing or does not fit."""


class PublishError(KineticsSoundsError):
    """A published folder that is missing, damaged, or not to be written over."""


class FolderInUseError(KineticsSoundsError):
    """A folder that another process writes to."""


class StoppedError(KineticsSoundsError):
    """Work that ended early after saving what was done: run again to go on."""


class FaultError(KineticsSoundsError):
    """A fault of ours or of a machine that nobody foresaw: nothing is claimed."""


class LostRanksError(FaultError):
    """Another rank of a run ended or hangs: what follows from an error, not what led to it."""


def first_line(error: Exception) -> str:
    """Of an error's message, or its type: what some libraries add to it are screens of C++."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
