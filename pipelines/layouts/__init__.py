"""Layouts: the folder formats that other projects' loaders read. One file per layout, found by its name.

A layout's module implements `Layout`: where a clip's files lie and what the lists contain. `pipelines.exporting` decides which
clips are made, distributes the work and checks existing files.
"""

import dataclasses
import errno
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from kinetics_sounds import cores, plugins
from kinetics_sounds.clip import Clip
from kinetics_sounds.errors import MediaError, SettingsError
from kinetics_sounds.media import encode, extract, ffmpeg

from .. import attempts, executors

MOST_SIDE = 4096
"""Maximum of `--short_side`, in pixels."""
LEAST_RATE, MOST_RATE = 8_000, 192_000
"""Range of `--sample_rate`, in hertz."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSettings:
    """Options of every layout; a layout's own `Settings` inherit from it."""

    manifest: Path | None = None
    """manifest.parquet of a build, its folder, or a filtered copy beside it. Default: the only one under data/, unless
    --shards is given."""
    shards: Path | None = None
    """Take frames and audio from this folder of shards (--codec h264) instead: small frames, audio at 24 kHz."""
    out: Path
    """Output folder; must hold nothing but this export."""
    executor: str = field(default="local", metadata={"package": executors.__name__})
    """Where workers run: processes on this machine, a Ray cluster, or Slurm array jobs."""
    workers: int = field(default_factory=cores.usable)
    """Number of worker processes, one core each. The output does not depend on it."""
    timeout: float = 300.0
    """Time limit of one ffmpeg run, in seconds."""
    check_bytes: bool = False
    """Verify the SHA-256 of existing files and make those that differ again. Without it only names, counts and sizes are
    compared."""
    json: bool = False
    """Print the result as JSON on standard output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A clip to export."""

    clip: Clip
    index: int
    """Index of its label among the sorted labels of the class list: the class index for other projects' code."""
    suffix: str = ".mp4"
    """Extension of the clip's file, with its dot, in lower case."""

    @property
    def key(self) -> str:
        """Key of the clip."""
        return self.clip.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An exported clip."""

    entry: Entry
    counts: Mapping[str, int]
    """Numbers returned by `make`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Picture and audio of a clip, given to a layout in a worker."""

    entry: Entry
    picture: Path
    """The clip's file, or a file of the frames in a shard."""
    sound: Path | None
    """The same file, or a file of the audio in a shard; None if the set has none."""
    channel: str = encode.MIX
    """Audio channel to use, as for `encode.encode`."""
    num_frames: int = 0
    """Expected number of decoded frames, as measured or stored in the shard; 0 if unknown."""
    timeout_seconds: float

    @property
    def _most_seconds(self) -> float:
        return self.entry.clip.seconds + 2.0

    def frames(self, folder: Path, *, name: str, fps: Fraction | None = None, short_side: int = 0) -> int:
        """Write frames below `folder`, which is created, as `extract.frames` does; returns their number.

        Raises MediaError if the clip does not decode, or twice to another number of frames than expected.
        """
        folder.mkdir(parents=True)

        def made() -> tuple[int, int]:
            for each in folder.iterdir():
                each.unlink()
            return extract.frames(
                self.picture,
                folder,
                name=name,
                fps=fps,
                short_side=short_side,
                most_seconds=self._most_seconds,
                timeout_seconds=self.timeout_seconds,
            )

        count, decoded = attempts.in_two_tries(
            made, self.picture, decoded=lambda found: found[1], frames=self.num_frames
        )
        if self.num_frames not in (0, decoded):
            raise MediaError(
                f"decodes to {decoded} frames, twice, where {self.num_frames} are recorded of it; rebuild the manifest "
                "or the shards with the installed tools"
            )
        return count

    def whole(self, path: Path, *, link: bool) -> None:
        """Copy or hard-link the clip's file; raises SettingsError if the disk does not support hard links."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not link:
            shutil.copyfile(self.picture, path)
            return
        try:
            path.hardlink_to(self.picture.resolve())
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
            raise SettingsError(
                f"{self.picture}: cannot be hard-linked ({error.strerror}); leave out --link"
            ) from error

    def wav(self, path: Path, *, rate: int) -> None:
        """Write the audio as 16-bit mono at `rate` Hz; raises SettingsError if the set has none."""
        if self.sound is None:
            raise SettingsError(f"{self.entry.key}: these shards have no sound; make them with --audio flac")
        sound = self.sound
        path.parent.mkdir(parents=True, exist_ok=True)
        attempts.in_two_tries(
            lambda: extract.wav(
                sound,
                path,
                rate=rate,
                channel=self.channel,
                most_seconds=self._most_seconds,
                timeout_seconds=self.timeout_seconds,
            ),
            sound,
        )


class Layout(Protocol):
    """Interface of a layout's module."""

    Settings: type[CommonSettings]
    """The layout's own options, a subclass of `CommonSettings`; its docstring is the help. A field that does not affect the
    bytes of any file has `same_bytes` in its metadata."""
    SHARDS: bool
    """Whether the layout can be made from shards."""

    def check(self, settings: Any, entries: Sequence[Entry]) -> None:  # noqa: ANN401 - of the layout's own Settings
        """Raise SettingsError for options or clips that this layout cannot represent."""

    def recipe(self, settings: Any) -> dict[str, object]:  # noqa: ANN401
        """Parameters and tool versions that determine the files' bytes, besides the clips and the options."""

    def places(self, entry: Entry, settings: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Files and folders of a clip, relative to the export's folder; different for each clip."""

    def counts(self, settings: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Names of the numbers returned by `make`."""

    def make(self, source: Source, folder: Path, settings: Any) -> dict[str, int]:  # noqa: ANN401
        """Write a clip's files below `folder`, which is empty; returns the numbers needed by the lists, named as in `counts`.

        Raises MediaError if the clip can never be exported: it is reported and left out.
        """

    def lists(self, done: Sequence[Exported], labels: Sequence[str], settings: Any) -> dict[str, bytes]:  # noqa: ANN401
        """Contents of the lists by file name, from all clips (sorted by split and key) and the sorted labels."""


def names() -> list[str]:
    """Names of all layouts."""
    return plugins.names(__name__)


def load(name: str) -> Layout:
    """Load the layout of this name; raises SettingsError listing the valid names."""
    layout: Any = plugins.load(__name__, name)
    return layout  # type: ignore[no-any-return]


def options(settings: CommonSettings) -> dict[str, object]:
    """A layout's own options that affect the files."""
    common = {each.name for each in dataclasses.fields(CommonSettings)}
    return {
        each.name: getattr(settings, each.name)
        for each in dataclasses.fields(settings)
        if each.name not in common and not each.metadata.get("same_bytes")
    }


def media_tools() -> dict[str, str]:
    """Versions of the decoding and encoding tools, for a `recipe`."""
    return {"ffmpeg": ffmpeg.version(), "av": version("av")}


def check_side(short_side: int) -> None:
    """Raise SettingsError for an invalid size; 0 keeps the clip's size."""
    if short_side and (not 16 <= short_side <= MOST_SIDE or short_side % 2):
        raise SettingsError(f"--short_side {short_side}: must be even, from 16 to {MOST_SIDE}, or 0")


def check_rate(sample_rate: int) -> None:
    """Raise SettingsError for an invalid sample rate."""
    if not LEAST_RATE <= sample_rate <= MOST_RATE:
        raise SettingsError(f"--sample_rate {sample_rate}: must be from {LEAST_RATE} to {MOST_RATE}")


def check_names(entries: Sequence[Entry], name: Callable[[Entry], str]) -> None:
    """Raise SettingsError if two clips would have the same name."""
    first: dict[str, str] = {}
    for entry in entries:
        other = first.setdefault(name(entry), entry.key)
        if other != entry.key:
            raise SettingsError(
                f"{other} and {entry.key} would both be named {name(entry)}; use a --manifest without one of them"
            )


def check_folders(labels: Sequence[str], folder: Callable[[str], str]) -> None:
    """Raise SettingsError if two labels would have the same folder."""
    first: dict[str, str] = {}
    for label in labels:
        other = first.setdefault(unicodedata.normalize("NFC", folder(label)), label)
        if other != label:
            raise SettingsError(
                f"the labels {other!r} and {label!r} would share the folder {folder(label)!r}; rename one"
            )


def text(lines: Sequence[str]) -> bytes:
    """Lines of a list as UTF-8."""
    return "".join(f"{line}\n" for line in lines).encode()


def one_line(label: str) -> str:
    """A label for a list with one per line: control characters and line ends become blanks."""
    return "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in label)
