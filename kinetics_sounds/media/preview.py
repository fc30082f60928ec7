"""Small preview of a clip for an HTML page: an mp4 that any browser plays, and its mel-spectrogram."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import MediaError
from . import encode, ffmpeg, hdr, synthesize
from .mel import Mel, mel_image
from .probe import Probe, check_aspect, probe

SIDE = 112
"""Shorter side of the picture in pixels."""
FPS = 15
"""Maximum frame rate."""
CRF = 28
"""x264 constant rate factor: low quality, small files."""
AUDIO_BITRATE = "40k"
MOST_SECONDS = 30
"""Maximum length of a preview in seconds."""
MEL = Mel(bands=64, columns=256)
"""Parameters of the mel-spectrogram."""


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """Preview of a clip."""

    mp4: bytes
    mel_FT: np.ndarray | None
    """Mel-spectrogram of the whole mp4, values from 0 to 1, low bands first, shape (F, T); None without audio."""


def of_clip(path: Path, *, channel: str = encode.MIX, timeout_seconds: float = 60) -> Preview:
    """Preview of a clip's file, with audio from `channel` (`encode.channel_name`).

    A sound without picture has a black one. Raises MediaError if the file has neither, or does not decode.
    """
    found = probe(path)
    if found.video is None:
        return _of_sound(path, found, channel=channel, timeout_seconds=timeout_seconds)
    check_aspect(found.video)
    with tempfile.TemporaryDirectory(prefix="ks-preview-", ignore_cleanup_errors=True) as name:
        out, samples = Path(name) / "clip.mp4", Path(name) / "sound.s16"
        opened = ffmpeg.source(path, audio_codec=found.audio.codec if found.audio else "")
        shown = opened[str(found.video.index)].filter("trim", end=MOST_SECONDS).filter("fps", fps=FPS, start_time=0)
        small = shown.filter("scale", **encode.sides(SIDE), flags=ffmpeg.BIT_EXACT_SCALE).filter("setsar", 1)
        small = hdr.to_sdr(small, found.video.transfer) if found.video.transfer else small
        streams, outputs = [small.filter("format", "yuv420p")], []
        if found.audio:
            heard = opened[str(found.audio.index)].filter("atrim", end=MOST_SECONDS)
            mixed = encode.MIX if found.audio.channels == 1 else channel
            both = encode.mono(heard, mixed).filter_multi_output("asplit")
            streams.append(both[0])
            outputs.append(ffmpeg.sink(both[1], path=samples, format="s16le", acodec="pcm_s16le"))
        how: dict[str, str | float] = {"vcodec": "libx264", "preset": "veryfast", "crf": CRF, "format": "mp4"}
        how |= {"acodec": "aac", "audio_bitrate": AUDIO_BITRATE} if found.audio else {}
        ffmpeg.run(ffmpeg.sink(*streams, path=out, **how), *outputs, timeout_seconds=timeout_seconds)
        wave = np.frombuffer(samples.read_bytes(), "<i2") if samples.exists() else np.zeros(0, np.int16)
        return Preview(out.read_bytes(), mel_image(wave / np.float32(32768), MEL) if wave.size else None)


def _of_sound(path: Path, found: Probe, *, channel: str, timeout_seconds: float) -> Preview:
    if found.audio is None:
        raise MediaError("it has neither a picture nor a sound stream")
    opened = ffmpeg.source(path, audio_codec=found.audio.codec)[str(found.audio.index)].filter(
        "atrim", end=MOST_SECONDS
    )
    with tempfile.TemporaryDirectory(prefix="ks-preview-", ignore_cleanup_errors=True) as name:
        samples = Path(name) / "sound.s16"
        sound = encode.mono(opened, encode.MIX if found.audio.channels == 1 else channel)
        ffmpeg.run(
            ffmpeg.sink(sound, path=samples, format="s16le", acodec="pcm_s16le"), timeout_seconds=timeout_seconds
        )
        wave = np.frombuffer(samples.read_bytes(), "<i2") / np.float32(32768)
    if not wave.size:
        raise MediaError("its sound stream holds no samples")
    return of_arrays(None, wave, mel_image(wave, MEL), fps=FPS)


def of_arrays(
    frames_THWC: np.ndarray | None, waveform: np.ndarray | None, mel_FT: np.ndarray | None, *, fps: float
) -> Preview:
    """Preview of decoded frames (uint8, RGB; None: black), mono 24 kHz audio (None: silence), and a mel-spectrogram."""
    if frames_THWC is None:
        seconds = 1.0 if waveform is None else len(waveform) / encode.SAMPLE_RATE
        frames_THWC = np.zeros((max(round(seconds * fps), 1), SIDE // 4, SIDE, 3), dtype=np.uint8)
    step = max(1, round(fps / FPS))
    kept_THWC, rate = frames_THWC[::step], fps / step
    silence = np.zeros(round(len(kept_THWC) / rate * encode.SAMPLE_RATE), np.float32)
    with tempfile.TemporaryDirectory(prefix="ks-preview-", ignore_cleanup_errors=True) as name:
        out = Path(name) / "clip.mp4"
        synthesize.write_mp4(
            out,
            kept_THWC,
            silence if waveform is None else waveform,
            fps=rate,
            sample_rate=encode.SAMPLE_RATE,
            crf=CRF,
            audio_bitrate=AUDIO_BITRATE,
        )
        return Preview(out.read_bytes(), mel_FT)
