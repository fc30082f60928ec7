"""What a shard keeps of a clip, out of one decoding pass: small frames in closed GOPs, and 24 kHz sound."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

from ..errors import MediaError
from . import ffmpeg, trim
from .probe import Probe, spans

SAMPLE_RATE = 24_000
"""Hertz, mono: what every method's sound is made from (methods: AVCL's own rate)."""
GOP = 16
"""Frames in a closed group of pictures: one model input that decodes alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How frames are stored."""

    short_side: int = 128
    """Pixels; even. The aspect is kept and the long side rounded up to even (4:3 gives 128 x 172)."""
    max_fps: float = 30.0
    """Frames a second; a faster source is brought down to it, a slower one keeps its own constant rate."""
    crf: int = 20
    """x264 constant rate factor: lower is finer and larger."""
    preset: str = "veryfast"
    """x264 preset; decides what the pass costs over bare decoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A clip's stored picture and sound."""

    mp4: bytes
    """H.264, `num_frames` frames, every 16 a closed GOP, no B-frames, constant rate."""
    flac: bytes
    """24 kHz mono, 16 bit."""
    waveform: np.ndarray
    """float32, shape (samples,), 24 kHz mono: exactly what `flac` holds."""
    num_frames: int
    fps: Fraction


def encode(path: Path, *, found: Probe, scratch: Path, encoding: Encoding, timeout_seconds: float) -> Encoded:
    """Decode a clip once and keep small frames and 24 kHz sound, both from time 0.

    The bytes depend on the clip, the encoding and the ffmpeg build alone: one thread, a bit-exact scaler and fixed-point
    sound decoding. `scratch` is an existing folder. Raises MediaError where a stream is missing or does not decode.
    """
    if found.video is None or found.audio is None:
        raise MediaError("picture and sound are needed to make a sample")
    rate = min(trim.frame_rate(found.video, path), Fraction(encoding.max_fps))
    opened = ffmpeg.source(path, audio_codec=found.audio.codec)
    side = encoding.short_side
    picture = (
        opened[str(found.video.index)]
        .filter("fps", fps=f"{rate.numerator}/{rate.denominator}", start_time=0)
        .filter(
            "scale",
            w=f"if(gte(dar,1),2*ceil({side}*dar/2-0.001),{side})",
            h=f"if(gte(dar,1),{side},2*ceil({side}/dar/2-0.001))",
            flags=ffmpeg.BIT_EXACT_SCALE,
        )
        .filter("setsar", 1)
        .filter("format", "yuv420p")
    )
    sound = opened[str(found.audio.index)].filter(
        "aresample", str(SAMPLE_RATE), tsf="s16p", osf="s16", ochl="mono", **{"async": 1, "first_pts": 0}
    )
    mp4, flac = scratch / "clip.mp4", scratch / "clip.flac"
    frames = ffmpeg.sink(
        picture,
        path=mp4,
        vcodec="libx264",
        preset=encoding.preset,
        crf=encoding.crf,
        g=GOP,
        keyint_min=GOP,
        sc_threshold=0,
        bf=0,
        format="mp4",
        **{"x264-params": "open-gop=0"},
    )
    # Fixed predictors are whole numbers; fitted ones differ with the CPU, and so would the bytes.
    track = ffmpeg.sink(sound, path=flac, acodec="flac", lpc_type="fixed", sample_fmt="s16", format="flac")
    ffmpeg.run(frames, track, timeout_seconds=timeout_seconds)
    video, _ = spans(mp4)
    waveform, _ = soundfile.read(flac, dtype="float32")
    if video is None or waveform.size == 0:
        raise MediaError("nothing of its picture or sound could be decoded")
    return Encoded(mp4=mp4.read_bytes(), flac=flac.read_bytes(), waveform=waveform, num_frames=video.count, fps=rate)
