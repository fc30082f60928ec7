"""Checks of the media tools: ffmpeg, the processing of a clip, and the decoders."""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kinetics_sounds.errors import MediaError

from . import Asked, Finding, Verdict, apart

if TYPE_CHECKING:
    import numpy as np

FRAMES = 32
FPS = 16
RATE = 24_000
"""Sample rate in hertz."""
MOST_LEVELS = 8
"""Maximum colour error after H.264, of 255 levels."""
REFERENCE = "pyav"
"""Reference decoder, always installed; the optional ones must give bitwise equal frames."""


def ffmpeg(asked: Asked) -> Iterator[Finding]:
    """The ffmpeg in use, and whether it has all required components."""
    from kinetics_sounds.media import ffmpeg as tool

    remedy = "unset IMAGEIO_FFMPEG_EXE to use imageio-ffmpeg's own, or set it to a full build"
    try:
        path = tool.executable()
        lacking = tool.missing_components(timeout_seconds=asked.timeout_seconds / 4)
        found = f"{tool.version()} ({path})"
    except (MediaError, OSError, subprocess.SubprocessError) as error:
        yield Finding("ffmpeg", Verdict.MISSING, f"does not run: {error}", remedy)
        return
    if lacking:
        yield Finding("ffmpeg", Verdict.MISSING, f"{found} lacks {', '.join(lacking)}", remedy)
    else:
        yield Finding("ffmpeg", Verdict.OK, found)


def clip(asked: Asked) -> Iterator[Finding]:
    """Make, trim and pack a clip, as a build does."""
    from kinetics_sounds.media import encode, mel, probe, trim

    with tempfile.TemporaryDirectory(prefix="ks-doctor-") as name:
        scratch, limit = Path(name), asked.timeout_seconds / 4
        video = _film(scratch)
        found = probe.probe(video)
        cut = trim.cut(video, scratch / "cut.mp4", found=found, start_seconds=0.5, seconds=1, timeout_seconds=limit)
        small = encode.Encoding(short_side=48)
        made = encode.encode(
            scratch / "cut.mp4",
            found=probe.probe(scratch / "cut.mp4"),
            scratch=scratch,
            encoding=small,
            timeout_seconds=limit,
        )
    image = mel.mel_image(made.waveform, mel.Mel())
    facts = (cut.video.count, made.num_frames, round(made.waveform.size / RATE, 1), image.shape)
    told = f"{facts[1]} frames, {facts[2]:g} s of sound, mel {facts[3][0]} x {facts[3][1]}"
    if facts == (FPS, FPS, 1.0, (256, 256)):
        yield Finding("clip", Verdict.OK, f"trimmed and packed: {told}")
    else:
        remedy = "unset IMAGEIO_FFMPEG_EXE if it is set, and reinstall imageio-ffmpeg and av"
        yield Finding("clip", Verdict.MISSING, f"one second of {FPS} frames was trimmed and packed to {told}", remedy)


def decoders(asked: Asked) -> Iterator[Finding]:
    """Check every decoder in its own process: they are known to hang."""
    from kinetics_sounds.media import decode

    for name in decode.names():
        yield from apart(decoder, replace(asked, subject=name, timeout_seconds=asked.timeout_seconds / 4))


def decoder(asked: Asked) -> Iterator[Finding]:
    """Whether a decoder returns the stored frames, in the requested order."""
    import numpy as np

    from kinetics_sounds.media import decode, encode, probe

    with tempfile.TemporaryDirectory(prefix="ks-doctor-") as folder:
        scratch = Path(folder)
        video = _film(scratch)
        mp4 = encode.encode(
            video,
            found=probe.probe(video),
            scratch=scratch,
            encoding=encode.Encoding(short_side=48, crf=4),
            timeout_seconds=asked.timeout_seconds / 2,
        ).mp4
    name, order = f"decoder {asked.subject}", [*range(FRAMES)][::-1]
    missing = Verdict.MISSING if asked.subject == REFERENCE else Verdict.WARNING
    remedy = "reinstall it, or train with --clip_and_mel.decoder and another that is ok (auto finds one)"
    try:
        shown = decode.decode(mp4, order, decoder=asked.subject)
    except MediaError as error:
        yield Finding(name, missing, str(error), remedy)
        return
    away_NN = np.abs(shown.mean((1, 2))[:, None] - _colours()[None]).max(-1)
    if shown.shape != (FRAMES, 48, 64, 3) or list(away_NN.argmin(1)) != order or away_NN.min(1).max() > MOST_LEVELS:
        found = f"its frames, of shape {shown.shape}, are not the stored ones"
        yield Finding(name, Verdict.MISSING, found, remedy)
    elif not _as_reference(mp4, order, shown):
        found = f"decodes, but not to the same bits as {REFERENCE}"
        yield Finding(name, Verdict.WARNING, found, "use the same decoder for all runs to be compared")
    else:
        yield Finding(name, Verdict.OK, f"{FRAMES} frames, as they were stored")


def _as_reference(mp4: bytes, numbers: list[int], shown_THWC: "np.ndarray") -> bool:
    """Whether the reference decoder returns the same uint8 frames, of shape (T, H, W, 3); true if it fails itself."""
    import numpy as np

    from kinetics_sounds.media import decode

    try:
        return np.array_equal(shown_THWC, decode.decode(mp4, numbers, decoder=REFERENCE))
    except MediaError:  # which a finding of its own says
        return True


def _colours() -> "np.ndarray":
    """RGB colour of each frame of the test video: shape (FRAMES, 3); all frames and all channels differ."""
    import numpy as np

    numbers = np.arange(FRAMES)
    return np.stack([40 + 5 * numbers, np.full(FRAMES, 120), 210 - 5 * numbers], axis=1)


def _film(scratch: Path) -> Path:
    """Two seconds of test video, 64 x 48: one colour per frame, and a tone."""
    import numpy as np

    from kinetics_sounds.media import synthesize

    frames = np.broadcast_to(_colours().astype(np.uint8)[:, None, None, :], (FRAMES, 48, 64, 3))
    times = np.arange(RATE * FRAMES // FPS) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    synthesize.write_mp4(scratch / "film.mp4", frames, tone, fps=FPS, sample_rate=RATE, crf=4)
    return scratch / "film.mp4"
