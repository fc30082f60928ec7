"""Encode a clip on disk into the parts of a sample."""

import dataclasses
import functools
import io
import json
import socket
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinetics_sounds import files
from kinetics_sounds.clip import Kind, Outcome, Status
from kinetics_sounds.errors import ManifestError, MediaError, SettingsError, StoppedError
from kinetics_sounds.media import encode, error_status, measure, mel, probe
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import SkippedClip

from .. import attempts
from ..attempts import Refused

PACKING = 1
"""Version of this code's output, incremented only when the bytes change, so that a release can keep existing shards."""
NAMES = (f"packing {PACKING}", "kinetics-sounds 0.1.0")
"""Names of this version in a set: the current one, then the one used before `PACKING` existed. The latter goes once it is
incremented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Parameters common to all samples."""

    folder: Path
    """Folder of the manifest, which clips' paths are relative to."""
    scratch: Path
    """An existing folder for ffmpeg's output."""
    encoding: encode.Encoding
    mel: mel.Mel
    audio: bool
    """Whether the audio is stored beside the mel-spectrogram."""
    modality: encode.Modality = "both"
    """What is stored of every clip."""
    folds: tuple[str, ...] | None = None
    """Names of a data set's folds, in the order of `Clip.folds`; None for a build."""
    several_labels: bool = False
    """Whether clips of the set have several labels."""
    timeout_seconds: float
    versions: str
    """Versions of the driver's tools (one of `versions`): a worker with others would produce other bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Input of a worker for one sample."""

    outcome: Outcome
    label_index: int
    packing: Packing
    label_indices: tuple[int, ...] = ()
    """Indices of all labels in the class list, `label_index` first; empty in a set of one label a clip."""


def attempt(task: Task) -> dict[str, bytes] | SkippedClip | Refused:
    """`pack`, with errors of the user's, the disk's or the machine's as results: any other exception counts as a bug."""
    return attempts.attempt(pack, task)


def pack(task: Task) -> dict[str, bytes] | SkippedClip:
    """The sample's parts by name, from one decoding pass; or why that is impossible.

    Raises ManifestError if the clip differs from the manifest, SettingsError if this machine's tools differ from the driver's,
    OSError if the disk is full or fails, and StoppedError if the clip cannot be read now, or a tool was killed or timed out: the
    clip may not be at fault, and a set without it would be another set.
    """
    packing, clip, media = task.packing, task.outcome.clip, task.outcome.media
    if packing.versions not in (ours := versions(packing.encoding)):
        raise SettingsError(
            f"{socket.gethostname()} has {ours[0]}, not {packing.versions}; install the same on every node"
        )
    if media is None:
        raise ValueError(f"{clip.key}: only an ok clip can be packed")
    path = packing.folder / media.path
    again = "run the same command again to resume, if need be with fewer --workers or a longer --timeout"
    try:
        if found := files.difference(path, size=media.bytes, digest=media.sha256):
            raise ManifestError(f"{path}: {found}, so it is not the clip in the manifest; {remedy_for(packing)}")
        most_seconds, channel = clip.seconds + 2 * measure.LONGER_SECONDS, media.audio_channel or encode.MIX
        made = attempts.in_two_tries(
            lambda: _encoded(path, packing, most_seconds, channel),
            path,
            decoded=lambda found: found.decoded_frames,
            frames=media.num_frames,
        )
    except MediaError as error:
        status = error_status.status(error)
        if status.kind is not Kind.PERMANENT:
            raise StoppedError(f"{status}: {error}; {again}") from error
        return SkippedClip(key=clip.key, status=status.value, detail=str(error))
    except OSError as error:
        error.filename = error.filename or str(path)
        if error.errno in (*files.FULL, *files.FAILING):
            raise
        raise StoppedError(
            f"{Status.UNREADABLE}: {error.filename}: {error.strerror} (errno {error.errno}); {again}"
        ) from error
    return _parts(task, made)


def remedy_for(packing: Packing) -> str:
    """Remedy if the clips differ from the manifest."""
    if packing.folds is None:
        return attempts.remedy(packing.folder, then="ks-shard")
    return "measure it again: ks-shard --dataset ... --check_bytes, with the options of the set"


def _parts(task: Task, made: encode.Encoded) -> dict[str, bytes]:
    packing, parts = task.packing, {layout.META: _meta(task, made)}
    if packing.modality != "audio":
        parts |= {layout.JPEGS: b"".join(made.jpegs)} if made.jpegs else {layout.FRAMES: made.mp4}
    if packing.modality != "video":
        parts[layout.MEL] = _npy(mel.mel_image(made.waveform, packing.mel).astype(np.float16))
        if packing.audio:
            parts[layout.AUDIO] = made.flac
    return parts


def _encoded(path: Path, packing: Packing, most_seconds: float, channel: str) -> encode.Encoded:
    """Stored picture and audio of the clip."""
    found = probe.probe(path)
    if found.audio and channel.isdecimal() and int(channel) >= found.audio.channels > 1:
        raise ManifestError(f"{path}: has no channel {channel}, the audio_channel of the manifest; run ks-build again")
    with tempfile.TemporaryDirectory(dir=packing.scratch, ignore_cleanup_errors=True) as name:
        return encode.encode(
            path,
            found=found,
            scratch=Path(name),
            encoding=packing.encoding,
            timeout_seconds=packing.timeout_seconds,
            most_seconds=most_seconds,
            channel=channel,
            modality=packing.modality,
        )


def _meta(task: Task, made: encode.Encoded) -> bytes:
    clip, media = task.outcome.clip, task.outcome.media
    document: dict[str, object] = {
        "key": clip.key,
        "label": clip.label,
        "label_index": task.label_index,
        "split": clip.split,
        "youtube_id": clip.youtube_id,
        "time_start": clip.time_start,
        "time_end": clip.time_end,
        "fps": float(made.fps),
        "num_frames": made.num_frames,
        "audio_samples": int(made.waveform.size),
        "source_sha256": media.sha256 if media else "",
        "versions": task.packing.versions,
    }
    if task.packing.folds:
        document["folds"] = dict(zip(task.packing.folds, clip.folds, strict=True))
    if task.packing.several_labels:
        document |= {"labels": list(clip.labels), "label_indices": list(task.label_indices)}
    if made.jpegs:
        document["frame_bytes"] = [len(jpeg) for jpeg in made.jpegs]
        document["frame_crcs"] = [zlib.crc32(jpeg) for jpeg in made.jpegs]
    return json.dumps(document, sort_keys=True).encode()


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(array), allow_pickle=False)
    return out.getvalue()


@functools.cache
def versions(encoding: encode.Encoding) -> tuple[str, ...]:
    """Versions that determine a sample's bytes, such as `packing 1; ffmpeg n9.0.2; numpy 2.4.1`, for each of `NAMES`."""
    tools = {**encode.versions(encoding), **mel.versions()}
    return tuple("; ".join((name, *(f"{tool} {number}" for tool, number in tools.items()))) for name in NAMES)


def recipe(packing: Packing) -> dict[str, object]:
    """Everything that determines a sample's bytes besides the clip and its label, for a fingerprint."""
    facts = {
        "encoding": encode.recipe(packing.encoding),
        "mel": dataclasses.asdict(packing.mel),
        "audio": packing.audio,
        "versions": packing.versions,
    }
    return facts if packing.modality == "both" else facts | {"modality": packing.modality}
