"""Builds that were never built: manifests of made-up clips, for what needs no media."""

import contextlib
import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kinetics_sounds import manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Media, Outcome, Status
from kinetics_sounds.pipelines import publish

LABELS = ("playing drums", "tapping pen", "person's humming")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def media(clip: Clip, **other: Any) -> Media:
    """What an audit may have measured."""
    facts: dict[str, Any] = {
        "path": f"clips/{clip.key}.mp4",
        "bytes": 1000 + clip.time_start,
        "sha256": sha256(clip.key),
        "duration_seconds": 10.0,
        "fps": 29.97,
        "width": 48,
        "height": 36,
        "num_frames": 300,
        "audio_rate": 44_100,
        "audio_channels": 2,
        "audio_rms_db": -20.5,
        "audio_offset_seconds": 0.02,
        "silent": False,
        "still": False,
        "other_streams": "",
        "rotation": 0,
        "decode_errors": 0,
        "audio_channel": "mix",
    }
    return Media(**facts | other)


def clip(number: int, *, label: str | None = None, split: str | None = None) -> Clip:
    """Clip `number` of a video of its own, whose id begins with `-`."""
    name = f"-id_{number:07d}"
    return Clip(name, number, number + 10, label or LABELS[number % 3], split or SPLITS[number % 7 % 3])


def outcome(made: Clip, status: Status = Status.OK, **other: Any) -> Outcome:
    """An ok clip, `other` of what was measured; or one that is not there."""
    return Outcome(clip=made, status=status, media=media(made, **other) if status is Status.OK else None)


def outcomes(count: int = 20) -> list[Outcome]:
    """Of which every fifth is private."""
    return [outcome(clip(n), Status.PRIVATE if n % 5 == 0 else Status.OK) for n in range(count)]


def write(
    folder: Path, made: Sequence[Outcome], *, labels: Sequence[str] = LABELS, name: str = "few", note: str = ""
) -> Path:
    """The manifest of these."""
    path = folder / "manifest.parquet"
    ordered = sorted(made, key=lambda each: (each.clip.split, each.clip.label, each.clip.key))
    several = any(each.clip.other_labels for each in ordered)
    manifest.write(path, ClassList(name, tuple(labels), note), ordered, several_labels=several)
    return path


def published(folder: Path, made: Sequence[Outcome], *more: str, code: int = 0, **about: Any) -> Path:
    """The published folder of these, without hashes."""
    path = write(folder / "build", made, **about)
    assert publish.main(["--manifest", str(path), "--out", str(folder / "out"), "--no_hashes", *more]) == code
    return folder / "out"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def hashes(seed: int, *, flips: int = 0) -> tuple[str, str]:
    """Hashes of picture and sound as of a real clip, some bits of each flipped as a new encoding does."""
    found = []
    for kind, digits in (("p", 136), ("s", 96)):
        bits = random.Random(f"{kind}{seed}").getrandbits(4 * digits)
        for place in random.Random(flips).sample(range(4 * digits), flips):
            bits ^= 1 << place
        found.append(f"{kind}1:{bits:0{digits}x}")
    return found[0], found[1]


@contextlib.contextmanager
def changed(path: Path, old: bytes, new: bytes) -> Iterator[None]:
    """A file in which `old`, which must be there, is `new`; as it was afterwards."""
    before = path.read_bytes()
    assert old in before
    path.write_bytes(before.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_bytes(before)
