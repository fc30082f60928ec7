"""Detect whether two files show the same clip, although encoder, source or version differ.

Each file is described by its duration, loudness and two perceptual hashes (`describe`); two descriptions are compared
(`compare`); `pairs` finds similar ones among many without comparing all pairs.

Black pictures, still pictures and silence are no evidence: their bits are 0 (`perceptual_hash`), and a distance only counts bits
that are 1 in either hash. So two clips do not match because both are almost empty, and an empty one does not match one that is
not.

The thresholds are chosen by `benchmarks/likeness.py` on real videos; results in `benchmarks/likeness.md`.
"""

import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import MediaError
from . import encode, ffmpeg, hdr, messages
from .measure import CANCELLED_DB
from .perceptual_hash import BANDS, COLUMNS, MOMENTS, PATTERNS, SIDE, SILENT_DB, loudness_db, picture_bits, sound_bits
from .probe import Audio, Probe, Video, probe

MAX_SECONDS = 600
"""Maximum duration of a file in seconds: a clip has about ten."""
MAX_FRAMES = 60 * MAX_SECONDS

MOST_DURATION_SECONDS = 2.0
"""Maximum difference in duration: two files of a ten-second span, each covering at least 90 % and at most one second too
long, differ by less."""
MOST_LOUDNESS_DB = 12.0
MOST_PICTURE = 0.45
MOST_MOTION = 0.64
MOST_SOUND = 0.7
"""Maximum distances of the hash parts for the same clip (`benchmarks/likeness.md`)."""
LEAST_EVIDENCE = 24
"""Minimum number of bits that must be 1 in either hash for a distance to be meaningful."""
NEIGHBOURS = 8
"""Number of following neighbours each clip is compared with, in each sort order of `pairs`."""

_MOTION_BITS = (MOMENTS - 1) * PATTERNS
_DIGITS = {"p": (MOMENTS * PATTERNS + _MOTION_BITS) // 4, "s": (COLUMNS - 1) * (BANDS - 1) // 4}
_FORM = re.compile(r"([ps])([1-9][0-9]?):([0-9a-f]{1,512})")

Part = Literal["duration", "loudness", "picture", "motion", "sound"]
Verdict = Literal["alike", "different", "unknown"]
_HASH_BOUNDS: Mapping[Part, float] = {"picture": MOST_PICTURE, "motion": MOST_MOTION, "sound": MOST_SOUND}
_BOUNDS: Mapping[Part, float] = {"duration": MOST_DURATION_SECONDS, "loudness": MOST_LOUDNESS_DB, **_HASH_BOUNDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Description of a clip that re-encoding hardly changes. Raises ValueError for invalid numbers or hashes.

    A hash is a text of kind (p, s), version and hexadecimal digits, such as `p1:0a…`; empty if not computed. A hash of another
    version is kept but not compared.
    """

    duration_seconds: float
    """Duration of the picture in seconds."""
    frames: int
    """Number of frames; not compared, since re-encoding may change the frame rate."""
    loudness_db: float
    """Loudness in dBFS, as the manifest's `audio_rms_db`; -200 for digital silence or no audio."""
    picture_hash: str = ""
    sound_hash: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration_seconds) and self.duration_seconds >= 0 and self.frames >= 0):
            raise ValueError(f"{self.frames} frames in {self.duration_seconds} s are not a clip's")
        if not math.isfinite(self.loudness_db):
            raise ValueError(f"{self.loudness_db} is not a loudness in decibels")
        parse(self.picture_hash, "p")
        parse(self.sound_hash, "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Result of comparing two descriptions."""

    verdict: Verdict
    """Alike: nothing differs, all hashes are present, and picture, motion or sound has enough evidence. For a still picture
    without sound the picture alone decides: two spans of such a video are alike."""
    broken: tuple[Part, ...]
    """Parts that differ by more than their threshold."""
    lacking: tuple[Part, ...]
    """Parts that could not be compared: a hash is missing or of another version, or both files have too little evidence."""
    distances: Mapping[Part, float]
    """Distance per part, 0 if equal: duration in seconds, loudness in decibels, else the fraction of the bits set in either
    hash that differ."""


def parse(text: str, kind: Literal["p", "s"]) -> int | None:
    """Bits of a hash of this version; None if it is empty or of another version.

    Raises ValueError if the text is not a hash of this kind.
    """
    if not text:
        return None
    found = _FORM.fullmatch(text)
    if found is None or found[1] != kind or (found[2] == "1" and len(found[3]) != _DIGITS[kind]):
        what = "picture" if kind == "p" else "sound"
        raise ValueError(
            f"{text[:40]!r} is not a hash of a {what}; expected {kind}1: and {_DIGITS[kind]} digits of 0-9a-f"
        )
    return int(found[3], 16) if found[2] == "1" else None


def write(bits: np.ndarray, kind: Literal["p", "s"]) -> str:
    """Booleans as a hash of this version; raises ValueError for the wrong number of bits."""
    if bits.size != 4 * _DIGITS[kind]:
        raise ValueError(f"a hash of kind {kind} has {4 * _DIGITS[kind]} bits, not {bits.size}")
    return f"{kind}1:{np.packbits(bits.ravel()).tobytes().hex()}"


def from_row(row: Mapping[str, Any]) -> Likeness:
    """Description from the columns of a published CSV or a manifest; raises ValueError if the row has no clip."""
    names = ("duration_seconds", "num_frames", "audio_rms_db")
    if missing := [name for name in names if row.get(name) in (None, "")]:
        raise ValueError(f"the row has no {', '.join(missing)}: only rows with status ok have them")
    return Likeness(
        duration_seconds=float(row["duration_seconds"]),
        frames=int(row["num_frames"]),
        loudness_db=float(row["audio_rms_db"]),
        picture_hash=row.get("picture_hash") or "",
        sound_hash=row.get("sound_hash") or "",
    )


def to_row(likeness: Likeness) -> dict[str, float | int | str]:
    """The columns that `from_row` reads."""
    return {
        "duration_seconds": likeness.duration_seconds,
        "num_frames": likeness.frames,
        "audio_rms_db": likeness.loudness_db,
        "picture_hash": likeness.picture_hash,
        "sound_hash": likeness.sound_hash,
    }


def alike(a: Likeness, b: Likeness) -> bool:
    """Whether both are the same clip; False also if that cannot be determined."""
    return compare(a, b).verdict == "alike"


def compare(a: Likeness, b: Likeness) -> Comparison:
    """Compare two descriptions with the thresholds."""
    distances: dict[Part, float] = {
        "duration": abs(a.duration_seconds - b.duration_seconds),
        "loudness": abs(max(a.loudness_db, SILENT_DB) - max(b.loudness_db, SILENT_DB)),
    }
    ours, theirs = _parts(a), _parts(b)
    lacking: list[Part] = []
    for part in _HASH_BOUNDS:
        found = _distance(ours[part], theirs[part]) if part in ours and part in theirs else None
        if found is None:
            lacking.append(part)
        else:
            distances[part] = found
    broken = tuple(part for part, distance in distances.items() if distance > _BOUNDS[part])
    all_there = len(ours) == len(theirs) == len(_HASH_BOUNDS)
    verdict: Verdict = "alike" if all_there and len(lacking) < len(_HASH_BOUNDS) else "unknown"
    return Comparison(
        verdict="different" if broken else verdict, broken=broken, lacking=tuple(lacking), distances=distances
    )


def _parts(likeness: Likeness) -> dict[Part, int]:
    """Bits of each part that was computed by this version."""
    picture, sound = parse(likeness.picture_hash, "p"), parse(likeness.sound_hash, "s")
    parts: dict[Part, int] = {}
    if picture is not None:
        parts |= {"picture": picture >> _MOTION_BITS, "motion": picture & ((1 << _MOTION_BITS) - 1)}
    return parts if sound is None else parts | {"sound": sound}


def _distance(a: int, b: int) -> float | None:
    """Fraction of the bits set in either hash that differ; None if too few are set."""
    either = (a | b).bit_count()
    return (a ^ b).bit_count() / either if either >= LEAST_EVIDENCE else None


def pairs(likenesses: Sequence[Likeness]) -> Iterator[tuple[int, int]]:
    """Indices (i < j) of clips that are `alike`, in order, in O(n log n) time.

    Locality-sensitive hashing: clips are sorted by 64 bits of their hashes, starting at each 16th bit, and each is compared with
    the next `NEIGHBOURS` that share the first 16 bits, unless these are all 0. Within a large group of similar clips not all
    pairs are returned: a hundred black clips with the same sound are chained to their neighbours. A pair may be missed
    (`benchmarks/likeness.md`). Clips without one of the hashes are in no pair.
    """
    there = [place for place, each in enumerate(likenesses) if len(_parts(each)) == len(_HASH_BOUNDS)]
    if not there:
        return
    table = _table([likenesses[place] for place in there])
    found = np.zeros(0, dtype=np.int64)
    for sorted_by in (table.hashes["picture"], table.hashes["sound"]):
        for band in range(sorted_by.shape[1]):
            near = _neighbours(np.roll(sorted_by, -band, axis=1))
            codes = [_alike(table, np.minimum(one, other), np.maximum(one, other)) for one, other in near]
            found = np.unique(np.concatenate([found, *codes]))
    for code in found.tolist():
        yield there[code // len(there)], there[code % len(there)]


class _Table(NamedTuple):
    """Descriptions as columns."""

    numbers: Mapping[Part, np.ndarray]
    hashes: Mapping[Part, np.ndarray]
    """Hashes per part, a row of 16-bit words per clip."""


def _table(likenesses: Sequence[Likeness]) -> _Table:
    def words(name: str) -> np.ndarray:
        joined = b"".join(bytes.fromhex(getattr(each, name)[3:]) for each in likenesses)
        return np.frombuffer(joined, ">u2").reshape(len(likenesses), -1).astype(np.uint16)

    picture, motion = np.split(words("picture_hash"), [MOMENTS * PATTERNS // 16], axis=1)
    loudness = np.array([max(each.loudness_db, SILENT_DB) for each in likenesses])
    numbers: dict[Part, np.ndarray] = {
        "duration": np.array([each.duration_seconds for each in likenesses]),
        "loudness": loudness,
    }
    return _Table(numbers, {"picture": picture, "motion": motion, "sound": words("sound_hash")})


def _alike(table: _Table, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pairs of rows that are alike, encoded as first row times number of rows plus second row."""
    keep = np.ones(len(first), dtype=bool)
    evidence = np.zeros(len(first), dtype=bool)
    for part, column in table.numbers.items():
        keep &= np.abs(column[first] - column[second]) <= _BOUNDS[part]
    for part, words in table.hashes.items():
        ours, theirs = words[first], words[second]
        either = np.bitwise_count(ours | theirs).sum(axis=1, dtype=np.int64)
        differ = np.bitwise_count(ours ^ theirs).sum(axis=1, dtype=np.int64)
        told = either >= LEAST_EVIDENCE
        keep &= ~told | (differ / np.maximum(either, 1) <= _BOUNDS[part])
        evidence |= told
    chosen = keep & evidence
    rows = len(table.numbers["duration"])
    codes: np.ndarray = first[chosen].astype(np.int64) * rows + second[chosen]
    return codes


def _neighbours(table: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows close to each other when sorted by their first four words, that share the first word, which is not 0."""
    rows = np.flatnonzero(table[:, 0])
    key = table[rows, 0].astype(np.uint64)
    for column in range(1, 4):
        key = key << np.uint64(16) | table[rows, column]
    order = rows[np.argsort(key, kind="stable")]
    shared = table[order, 0]
    for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
        same = shared[:-step] == shared[step:]
        yield order[:-step][same], order[step:][same]


def describe(path: Path, *, timeout_seconds: float = 60) -> Likeness:
    """Decode a whole clip and describe it.

    `timeout_seconds` applies to each run of ffmpeg, of which there are two if the channels cancel each other out. Raises
    MediaError if there is no picture or it does not decode, TooLargeError beyond `MAX_SECONDS` or `MAX_FRAMES`, TimedOutError,
    and OSError for faults of the machine.
    """
    found = probe(path)
    if found.video is None:
        raise MediaError("it has no picture stream")
    with tempfile.TemporaryDirectory(prefix="ks-likeness-", ignore_cleanup_errors=True) as name:
        times, pictures, waveform = _decoded(path, found, found.video, Path(name), timeout_seconds)
    return Likeness(
        duration_seconds=round(float(times.max() - times.min()), 6),
        frames=len(times),
        loudness_db=round(loudness_db(waveform), 3),
        picture_hash=write(picture_bits(times, pictures), "p"),
        sound_hash=write(sound_bits(waveform, float(times.max())), "s"),
    )


def _decoded(
    path: Path, found: Probe, video: Video, scratch: Path, timeout_seconds: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and end of each frame in seconds, the frames (T, `SIDE`, `SIDE`), and 24 kHz mono 16-bit audio."""
    raw, samples = scratch / "frames.gray", scratch / "sound.s16"
    opened = ffmpeg.source(path, audio_codec=found.audio.codec if found.audio else "")
    shown = opened[str(video.index)].filter("showinfo", checksum=0).filter("trim", end=MAX_SECONDS + 1)
    small = shown.filter("scale", SIDE, SIDE, flags=encode.AREA_SCALE)
    small = (hdr.to_sdr(small, video.transfer) if video.transfer else small).filter("format", "gray")
    most = {"frames:v": MAX_FRAMES + 1}
    outputs = [ffmpeg.sink(small, path=raw, format="rawvideo", fps_mode="passthrough", **most)]
    if found.audio:
        both = opened[str(found.audio.index)].filter("atrim", end=MAX_SECONDS + 1).filter_multi_output("asplit")
        apart = both[0].filter("aresample", str(encode.SAMPLE_RATE), osf="s16")
        apart = apart.filter("astats", measure_perchannel="RMS_level", measure_overall="none")
        outputs += [_samples(encode.mono(both[1]), samples)]
        outputs += [ffmpeg.sink(apart, path=scratch / "none", format="null")]
    told = ffmpeg.run(*outputs, timeout_seconds=timeout_seconds)
    times = np.array(messages.frames(told), dtype=np.float64).reshape(-1, 2)
    if len(times) > MAX_FRAMES or (len(times) and times.max() > MAX_SECONDS):
        raise ffmpeg.TooLargeError(f"it has more than {MAX_SECONDS} s or {MAX_FRAMES} frames; trim it first")
    pictures = np.frombuffer(raw.read_bytes(), np.uint8).reshape(-1, SIDE, SIDE)
    if not len(pictures):
        raise MediaError("no frame of its picture stream can be decoded")
    if len(pictures) != len(times):
        raise MediaError(f"ffmpeg reported {len(times)} frames but wrote {len(pictures)}")
    waveform = _read(samples)
    levels = messages.levels_db(told)
    if found.audio and levels and loudness_db(waveform) < max(levels) - CANCELLED_DB:
        waveform = _of_channel(path, found.audio, levels, samples, timeout_seconds)
    return times, pictures, waveform


def _samples(sound: Any, path: Path) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    return ffmpeg.sink(sound, path=path, format="s16le", acodec="pcm_s16le")


def _of_channel(path: Path, audio: Audio, levels: list[float], samples: Path, timeout_seconds: float) -> np.ndarray:
    """Samples of the loudest channel, used if the mix cancels it out."""
    channel = encode.channel_name(levels.index(max(levels)), len(levels))
    opened = ffmpeg.source(path, audio_codec=audio.codec)[str(audio.index)].filter("atrim", end=MAX_SECONDS + 1)
    ffmpeg.run(_samples(encode.mono(opened, channel), samples), timeout_seconds=timeout_seconds)
    return _read(samples)


def _read(samples: Path) -> np.ndarray:
    return np.frombuffer(samples.read_bytes(), "<i2") if samples.exists() else np.zeros(0, np.int16)
