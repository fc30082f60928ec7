"""Write arrays to a video file, for synthetic data."""

import tempfile
from pathlib import Path

import ffmpeg as builder
import numpy as np
import soundfile

from . import ffmpeg


def write_mp4(
    path: Path,
    frames_THWC: np.ndarray,
    waveform: np.ndarray,
    *,
    fps: float,
    sample_rate: int,
    crf: int = 14,
    audio_bitrate: str = "96k",
    fast_audio: bool = False,
) -> None:
    """Write uint8 frames of shape (T, H, W, 3) and a mono float waveform in [-1, 1] as H.264 and AAC.

    `fast_audio` halves the time of the whole and makes the sound about 0.3 dB softer. Height and width must be even. Raises
    ValueError for other frames, MediaError if ffmpeg fails.
    """
    time, height, width, channels = frames_THWC.shape
    if time < 1 or height % 2 or width % 2 or channels != 3 or frames_THWC.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 (T, even, even, 3), not {frames_THWC.dtype} {frames_THWC.shape}")
    with tempfile.TemporaryDirectory(prefix="ks-synthesize-") as name:
        raw, wav = Path(name) / "frames.rgb", Path(name) / "sound.wav"
        raw.write_bytes(np.ascontiguousarray(frames_THWC).tobytes())
        soundfile.write(wav, waveform, sample_rate, subtype="PCM_16")
        picture = builder.input(ffmpeg.word_of(raw), format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", r=fps)
        sound = builder.input(ffmpeg.word_of(wav), format="wav")
        output = ffmpeg.sink(
            picture.video,
            sound.audio,
            path=path.absolute(),
            vcodec="libx264",
            preset="veryfast",
            crf=crf,
            pix_fmt="yuv420p",
            acodec="aac",
            audio_bitrate=audio_bitrate,
            aac_coder="fast" if fast_audio else "twoloop",
            format="mp4",
        )
        ffmpeg.run(output, timeout_seconds=60)
