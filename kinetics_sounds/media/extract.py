"""Extract a clip's frames as JPEG files and its audio as a WAV file, for third-party loaders."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import MediaError
from . import encode, ffmpeg, hdr, messages
from .probe import Video, check_aspect, probe
from .trim import NoSoundError

_JPEG: dict[str, str | float] = {
    "vcodec": "mjpeg",
    "format": "image2",
    "q:v": 2,  # of 2 (finest) to 31
    "dct": "int",  # whole numbers: the other ways differ with the CPU
    "fps_mode": "passthrough",
    "start_number": 1,
}
_JFIF: dict[str, str] = {"out_range": "pc", "out_color_matrix": "bt601"}
"""JPEG colour space that every reader assumes."""


class TooFewFramesError(MediaError):
    """A clip has fewer frames than its reader needs."""


def recipe(*, sound_rate: int | None = None) -> dict[str, object]:
    """All parameters that determine the bytes of the frames, and of the audio if a rate in hertz is given."""
    frames: dict[str, object] = {
        "jpeg": _JPEG,
        "colours": _JFIF,
        "scale": [ffmpeg.BIT_EXACT_SCALE, encode.AREA_SCALE, encode.FULL_CHROMA],
    }
    return frames if sound_rate is None else frames | {"sound_rate": sound_rate}


def frames(
    path: Path,
    folder: Path,
    *,
    name: str,
    timeout_seconds: float,
    fps: Fraction | None = None,
    short_side: int = 0,
    most_seconds: float | None = None,
) -> tuple[int, int]:
    """Write a clip's frames as `folder/name`, `%05d` being the number from 1; returns how many were written and decoded.

    At `fps` frames per second each frame is the one shown in the middle of its interval, so at 0.5 s for the first of one per
    second; without `fps` every frame is written. `short_side` in pixels (0: as in the clip) keeps the aspect ratio; nothing after
    `most_seconds` is decoded. Pixels become square. The bytes depend only on the clip, the parameters and the ffmpeg version.
    Raises MediaError if there is no picture or it does not decode, and BadAspectError.
    """
    shows = probe(path).video
    if shows is None:
        raise MediaError("it has no picture stream")
    check_aspect(shows)
    picture = ffmpeg.source(path)[str(shows.index)].filter("showinfo", checksum=0)
    if most_seconds is not None:
        picture = picture.filter("trim", end=most_seconds)
    if fps is not None:
        picture = picture.filter("fps", fps=f"{fps.numerator}/{fps.denominator}", start_time=0)
    target = Path(str(folder.absolute()).replace("%", "%%")) / name  # only the name's own % is a number
    told = ffmpeg.run(
        ffmpeg.sink(_sized(picture, shows, short_side), path=target, **_JPEG), timeout_seconds=timeout_seconds
    )
    return sum(1 for _ in folder.glob(f"*{target.suffix}")), len(messages.frames(told))


def _sized(picture: Any, video: Video, short_side: int) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """Filter graph for the picture with square pixels at its size, in the colour space of a JPEG."""
    flags, sides = ffmpeg.BIT_EXACT_SCALE, {"w": "max(2,2*round(ih*dar/2))", "h": "ih"}
    if video.transfer:
        picture = hdr.to_sdr(picture, video.transfer)
    if short_side:
        shrinks = min(video.width, video.height) >= encode.AREA_FROM * short_side
        flags = encode.AREA_SCALE if shrinks else flags
        sides = encode.sides(short_side)
    elif video.sample_aspect == 1:
        sides = {"w": "iw", "h": "ih"}
    scaled = picture.filter("scale", **sides, flags=f"{flags}+{encode.FULL_CHROMA}", **_JFIF)
    return scaled.filter("setsar", 1).filter("format", "yuvj420p")


def wav(
    path: Path,
    out: Path,
    *,
    rate: int,
    timeout_seconds: float,
    channel: str = encode.MIX,
    most_seconds: float | None = None,
) -> None:
    """Write a clip's audio as 16-bit mono at `rate` Hz, from time 0; `channel` is as for `encode.encode`.

    Raises NoSoundError if there is none, MediaError if it does not decode.
    """
    sounds = probe(path).audio
    if sounds is None:
        raise NoSoundError("it has no sound stream")
    heard = ffmpeg.source(path, audio_codec=sounds.codec)[str(sounds.index)]
    if most_seconds is not None:
        heard = heard.filter("atrim", end=most_seconds)
    mono = encode.mono(heard, encode.MIX if sounds.channels == 1 else channel, rate=rate)
    ffmpeg.run(ffmpeg.sink(mono, path=out, format="wav", acodec="pcm_s16le"), timeout_seconds=timeout_seconds)
