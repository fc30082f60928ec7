"""Encode a clip for storage in a shard, in one decoding pass: small frames and 24 kHz audio."""

import dataclasses
import io
import math
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

from .. import sampling
from ..errors import MediaError
from . import ffmpeg, hdr, messages, timeline
from .mp4 import MAX_PIXELS
from .probe import Audio, Probe, Video, check_aspect, frame_rate

SAMPLE_RATE = sampling.SAMPLE_RATE
"""Sample rate of the stored mono audio in hertz (AVCL's own rate)."""
Modality = Literal["both", "video", "audio"]
"""What is stored of a clip."""
MIX = "mix"
"""Channel name for the mix of all channels."""
ENDS_SECONDS = 0.05
"""Maximum difference between the ends of the stored picture and the clip's, in seconds, or one frame if that is more."""
STEP_SECONDS = 0.02
"""Maximum difference in length between the stored audio and the clip's, in seconds."""
HOLES_SECONDS = (0.1, 0.01)
"""Minimum length of audio gaps that are filled, in seconds. Our own clips have none and may have coarse time stamps, so the
second value is only used if the first leaves the audio too short, in a clip linked by an older version."""
GOP = sampling.GOP
"""Frames per closed group of pictures: one model input, which decodes on its own."""
AREA_SCALE = "area+accurate_rnd+bitexact"
"""ffmpeg scaler flags: area averaging, as exact on every CPU as `ffmpeg.BIT_EXACT_SCALE`, at a third of its cost."""
AREA_FROM = 2
"""Minimum downscaling factor for area averaging, which shows steps below it."""

FULL_CHROMA = "full_chroma_int"
"""ffmpeg flag for RGB conversion with full chroma resolution, without the bias of one or two levels of the fast path."""

# Arithmetic coding would save a tenth of the bytes, and cost a quarter of what it takes to decode them at every epoch.
_X264: dict[str, str | float] = dict(
    g=GOP, keyint_min=GOP, sc_threshold=0, bf=0, **{"x264-params": "open-gop=0:cabac=0"}
)
# Fixed predictors are whole numbers; fitted ones differ with the CPU, and so would the bytes.
_FLAC: dict[str, str | float] = {"acodec": "flac", "lpc_type": "fixed", "sample_fmt": "s16"}
_RGB: dict[str, str | float] = {"vcodec": "ppm", "format": "image2pipe"}
"""Output format from which JPEGs are made: ffmpeg's own JPEG encoder costs four times as much as libjpeg-turbo's."""


class OutOfSyncError(MediaError):
    """The encoded picture and audio are not aligned as in the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Encoding of the stored frames."""

    codec: Literal["h264", "jpeg"] = "h264"
    """H.264 in closed GOPs, or one JPEG per frame (seven times the bytes, read 1.3 times as fast)."""
    short_side: int = 128
    """Shorter side in pixels, even. The aspect ratio is kept; the longer side is rounded up to even (4:3 gives 128 x 172)."""
    max_fps: float = 30.0
    """Maximum frame rate: a faster source is reduced to it, a slower one keeps its own constant rate."""
    crf: int = 23
    """x264 constant rate factor: lower means higher quality and larger files."""
    preset: str = "superfast"
    """x264 preset; determines the cost of the pass beyond decoding."""
    quality: int = 90
    """JPEG quality, 1 to 100: higher means higher quality and larger files."""
    fast_decode: bool = False
    """Whether to decode the source without the loop filter: faster, but the frames differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Stored picture and audio of a clip, or one of them."""

    mp4: bytes = b""
    """H.264, `num_frames` frames, closed GOPs of 16, no B-frames, constant rate; empty if there are JPEGs or no picture."""
    jpegs: tuple[bytes, ...] = ()
    """Every frame as a baseline JPEG, 4:2:0; empty if there is an mp4 or no picture."""
    flac: bytes = b""
    """24 kHz mono, 16 bit; empty without audio."""
    waveform: np.ndarray
    """float32, shape (samples,), 24 kHz mono: the exact content of `flac`."""
    num_frames: int = 0
    fps: Fraction = Fraction(0)
    decoded_frames: int = 0
    """Number of frames of the clip before its rate was changed."""


def recipe(encoding: Encoding) -> dict[str, object]:
    """All parameters that determine the bytes of frames and audio, besides the clip and the versions of the tools."""
    ours = {"h264": ("crf", "preset"), "jpeg": ("quality",)}
    others = {name for codec, names in ours.items() if codec != encoding.codec for name in names}
    own: dict[str, object] = {name: value for name, value in dataclasses.asdict(encoding).items() if name not in others}
    how: dict[str, object] = (
        {"gop": GOP, "x264": _X264} if encoding.codec == "h264" else {"subsampling": "420", "rgb": FULL_CHROMA}
    )
    scale = {"flags": ffmpeg.BIT_EXACT_SCALE, "shrunk_from": AREA_FROM, "shrunk_flags": AREA_SCALE}
    return own | how | {"scale": scale, "sample_rate": SAMPLE_RATE, "flac": _FLAC}


def versions(encoding: Encoding) -> dict[str, str]:
    """Versions of the tools that determine the bytes; PyAV's estimate of the mean frame rate affects the frames."""
    tools = {"ffmpeg": ffmpeg.version(), "av": version("av")}
    return tools | {"simplejpeg": version("simplejpeg")} if encoding.codec == "jpeg" else tools


def encode(
    path: Path,
    *,
    found: Probe,
    scratch: Path,
    encoding: Encoding,
    timeout_seconds: float,
    most_seconds: float | None = None,
    channel: str = MIX,
    modality: Modality = "both",
) -> Encoded:
    """Decode a clip once, and encode small frames, 24 kHz audio, or `both`, starting at time 0.

    `channel` is the source channel of the audio (`channel_name`). Nothing after `most_seconds` is kept: the gap before a packet
    with a far later time stamp would be filled. The bytes depend only on the clip, the encoding and the versions of the tools:
    one thread, a bit-exact scaler, fixed-point audio decoding, integer JPEG. `scratch` is an existing folder. Raises MediaError
    if a needed stream is missing or does not decode, BadAspectError, and OutOfSyncError if the result is longer or shorter than
    the clip.
    """
    shows = None if modality == "audio" else found.video
    sounds = None if modality == "video" else found.audio
    if (shows is None) != (modality == "audio") or (sounds is None) != (modality == "video"):
        needed = {"both": "picture and sound are", "video": "a picture is", "audio": "sound is"}[modality]
        raise MediaError(f"{needed} needed to make a sample")
    if shows is not None:
        check_aspect(shows)

    def made(hole: float) -> Encoded:
        return _encode(path, shows, sounds, scratch, encoding, timeout_seconds, most_seconds, channel, hole)

    try:
        return made(HOLES_SECONDS[0])
    except OutOfSyncError:
        return made(HOLES_SECONDS[1])


def _encode(
    path: Path,
    shows: Video | None,
    sounds: Audio | None,
    scratch: Path,
    encoding: Encoding,
    timeout_seconds: float,
    most_seconds: float | None,
    channel: str,
    hole: float,
) -> Encoded:
    """Same as `encode`, of one picture stream, one audio stream or both, filling audio gaps of at least `hole` seconds."""
    rate = Fraction(0) if shows is None else min(frame_rate(shows, path), Fraction(encoding.max_fps))
    most = math.inf if most_seconds is None else most_seconds
    skip = {"skip_loop_filter": "all"} if encoding.fast_decode else {}
    opened = ffmpeg.source(path, audio_codec=sounds.codec if sounds else "", **skip)
    video, flac = scratch / "clip.video", scratch / "clip.flac"
    outputs = []
    if shows is not None:
        shown = opened[str(shows.index)].filter("showinfo", checksum=0)
        if most_seconds is not None:
            shown = shown.filter("trim", end=most_seconds)
        picture = _small(shown, shows, rate=rate, encoding=encoding)
        outputs.append(ffmpeg.sink(picture, path=video, **_video_codec(encoding)))
    if sounds is not None:
        heard = opened[str(sounds.index)].filter("ashowinfo")
        if most_seconds is not None:
            heard = heard.filter("atrim", end=most_seconds)
        sound = mono(heard, MIX if sounds.channels == 1 else channel, hole=hole)
        outputs.append(ffmpeg.sink(sound, path=flac, format="flac", **_FLAC))
    told = ffmpeg.run(*outputs, timeout_seconds=timeout_seconds)
    waveform = np.zeros(0, dtype=np.float32)
    if sounds is not None:
        waveform, _ = soundfile.read(
            io.BytesIO(flac.read_bytes()), dtype="float32"
        )  # it takes no name that is not UTF-8
    mp4, jpegs, count = _stored(video, encoding) if shows is not None else (b"", (), 0)
    if (shows is not None and count == 0) or (sounds is not None and waveform.size == 0):
        raise MediaError("nothing of its picture or sound could be decoded")
    if shows is not None:
        _check_picture_end(told, pictures=float(count / rate), frame=float(1 / rate), most=most)
    if sounds is not None:
        _check_sound_end(told, sound=waveform.size / SAMPLE_RATE, most=most)
    return Encoded(
        mp4=mp4,
        jpegs=jpegs,
        flac=flac.read_bytes() if sounds is not None else b"",
        waveform=waveform,
        num_frames=count,
        fps=rate,
        decoded_frames=len(messages.frames(told)),
    )


def _video_codec(encoding: Encoding) -> dict[str, str | float]:
    """Options of ffmpeg for the frames' file."""
    if encoding.codec != "h264":
        return _RGB
    x264: dict[str, str | float] = {
        "vcodec": "libx264",
        "preset": encoding.preset,
        "crf": encoding.crf,
        "format": "mp4",
    }
    return x264 | _X264


def _stored(video: Path, encoding: Encoding) -> tuple[bytes, tuple[bytes, ...], int]:
    """Frames as an mp4 or as JPEGs, and their number; raises TooLargeError for a frame that no decoder would accept."""
    if encoding.codec == "h264":
        mp4 = video.read_bytes()
        _check_size(*_sides(mp4))
        return mp4, (), _samples(mp4)
    jpegs = _jpegs(video, encoding.quality)
    return b"", jpegs, len(jpegs)


def channel_name(index: int, count: int) -> str:
    """Name of a channel in the manifest: `left` or `right` of two, else its number from 0."""
    return ("left", "right")[index] if count == 2 else str(index)


def mono(sound: Any, channel: str = MIX, *, hole: float = 0.1, rate: int = SAMPLE_RATE) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """Filter graph for the stored audio: mono from time 0 at `rate` Hz, mixed from all channels or taken from one.

    A late start and gaps of at least `hole` seconds are filled with silence.
    """
    if channel != MIX:
        number = {"left": "0", "right": "1"}.get(channel, channel)
        sound = sound.filter("channelmap", map=number, channel_layout="mono")
    fill = {"async": 1, "min_hard_comp": hole, "first_pts": 0}
    return sound.filter("aresample", str(rate), tsf="s16p", osf="s16", ochl="mono", **fill)


def _check_picture_end(told: str, *, pictures: float, frame: float, most: float) -> None:
    """Raise OutOfSyncError unless the length of the picture in seconds matches the clip's, up to `most`.

    A last frame of unknown duration counts as long as a stored frame.
    """
    last, end = max((times for times in messages.frames(told) if times[0] < most), default=(0.0, 0.0))
    earliest, latest = min(last + frame, most), min(max(end, last + frame), most)
    near = max(frame, ENDS_SECONDS)
    if not earliest - near <= pictures <= latest + near:
        raise OutOfSyncError(f"{pictures:.3f} s of picture were made from a clip with {latest:.3f} s")


def _check_sound_end(told: str, *, sound: float, most: float) -> None:
    """Raise OutOfSyncError unless the length of the audio in seconds matches the clip's, up to `most`."""
    blocks = messages.blocks(told)
    pieces = timeline.arrange(blocks, end=None if math.isinf(most) else round(most * blocks[0].rate)) if blocks else []
    heard = (pieces[-1].place + pieces[-1].length) / blocks[0].rate if pieces else 0.0
    if abs(sound - heard) > STEP_SECONDS:
        raise OutOfSyncError(f"{sound:.3f} s of sound were made from a clip with {heard:.3f} s")


def _small(picture: Any, video: Video, *, rate: Fraction, encoding: Encoding) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """Filter graph for the picture at its stored rate and size, in the pixel format of its codec."""
    side = encoding.short_side
    flags = AREA_SCALE if min(video.width, video.height) >= AREA_FROM * side else ffmpeg.BIT_EXACT_SCALE
    pixels, more = ("yuv420p", "") if encoding.codec == "h264" else ("rgb24", f"+{FULL_CHROMA}")
    small = (
        picture.filter("fps", fps=f"{rate.numerator}/{rate.denominator}", start_time=0)
        .filter("scale", **sides(side), flags=flags + more)
        .filter("setsar", 1)
    )
    return (hdr.to_sdr(small, video.transfer) if video.transfer else small).filter("format", pixels)


def sides(short_side: int) -> dict[str, str]:
    """Arguments of ffmpeg's `scale`: shorter side in pixels, longer side even, square pixels."""
    return {
        "w": f"if(gte(dar,1),2*ceil({short_side}*dar/2-0.001),{short_side})",
        "h": f"if(gte(dar,1),{short_side},2*ceil({short_side}/dar/2-0.001))",
    }


def _samples(mp4: bytes) -> int:
    """Number of frames of an mp4 of ours, from its one track's size table (`stsz`), which is at its end."""
    table = mp4.rfind(b"stsz")
    return int.from_bytes(mp4[table + 12 : table + 16]) if table >= 0 else 0


def _sides(mp4: bytes) -> tuple[int, int]:
    """Width and height of an mp4 of ours, from its one sample entry (`avc1`); (0, 0) if it has no frame."""
    entry = mp4.rfind(b"avc1")
    return int.from_bytes(mp4[entry + 28 : entry + 30]), int.from_bytes(mp4[entry + 30 : entry + 32])


def _check_size(width: int, height: int) -> None:
    """Raise TooLargeError for a frame that exceeds the limits of the decoders."""
    if width * height > MAX_PIXELS:
        raise ffmpeg.TooLargeError(f"its frames would be {width} x {height}, more than {MAX_PIXELS} pixels")


def _jpegs(path: Path, quality: int) -> tuple[bytes, ...]:
    """Encode each picture of a file of PPMs as a JPEG."""
    import simplejpeg

    jpegs: list[bytes] = []
    with path.open("rb") as file:
        while file.readline() == b"P6\n":
            width, height = map(int, file.readline().split())
            file.readline()  # the greatest value, 255
            _check_size(width, height)
            rgb_HWC = np.frombuffer(file.read(height * width * 3), dtype=np.uint8).reshape(height, width, 3)
            jpegs.append(simplejpeg.encode_jpeg(rgb_HWC, quality=quality, colorsubsampling="420", fastdct=False))
    return tuple(jpegs)
