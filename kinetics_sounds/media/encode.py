"""What a shard keeps of a clip, out of one decoding pass: small frames, and 24 kHz sound."""

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
from .probe import Probe, Video, check_aspect, frame_rate

SAMPLE_RATE = sampling.SAMPLE_RATE
"""Hertz, mono: what every method's sound is made from (AVCL's own rate)."""
MIX = "mix"
"""All channels together."""
ENDS_SECONDS = 0.05
"""The stored picture may end this far, or one frame, from where it ends in the clip."""
STEP_SECONDS = 0.02
"""The stored sound may be this much longer or shorter than the clip's."""
HOLES_SECONDS = (0.1, 0.01)
"""Holes in the sound that are filled: in a clip of this version there is none, and its time stamps may be rough; the second
where the first leaves the sound too short, in a clip that an older version linked."""
GOP = sampling.GOP
"""Frames in a closed group of pictures: one model input that decodes alone."""
AREA_SCALE = "area+accurate_rnd+bitexact"
"""Means of the pixels that fall together, as exact on every CPU as `ffmpeg.BIT_EXACT_SCALE`, at a third of its cost."""
AREA_FROM = 2
"""Times that a picture must shrink for that: below, its steps would show."""

FULL_CHROMA = "full_chroma_int"
"""For RGB: whole colours, without the bias of one level or two that the quick way has."""

# Arithmetic coding would save a tenth of the bytes, and cost a quarter of what it takes to decode them at every epoch.
_X264: dict[str, str | float] = dict(
    g=GOP, keyint_min=GOP, sc_threshold=0, bf=0, **{"x264-params": "open-gop=0:cabac=0"}
)
# Fixed predictors are whole numbers; fitted ones differ with the CPU, and so would the bytes.
_FLAC: dict[str, str | float] = {"acodec": "flac", "lpc_type": "fixed", "sample_fmt": "s16"}
_RGB: dict[str, str | float] = {"vcodec": "ppm", "format": "image2pipe"}
"""What JPEGs are made of: ffmpeg's own JPEGs cost four times as much as libjpeg-turbo's."""


class OutOfSyncError(MediaError):
    """Picture and sound do not lie in what was made as they do in its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How frames are stored."""

    codec: Literal["h264", "jpeg"] = "h264"
    """H.264 in closed groups, or every frame a JPEG of its own: seven times the bytes, a third of the work to read."""
    short_side: int = 128
    """Pixels; even. The aspect is kept and the long side rounded up to even (4:3 gives 128 x 172)."""
    max_fps: float = 30.0
    """Frames a second; a faster source is brought down to it, a slower one keeps its own constant rate."""
    crf: int = 23
    """x264 constant rate factor: lower is finer and larger."""
    preset: str = "superfast"
    """x264 preset; decides what the pass costs over bare decoding."""
    quality: int = 90
    """Of JPEGs, 1 to 100: higher is finer and larger."""
    fast_decode: bool = False
    """Whether the source is decoded without its loop filter: other frames, for less work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A clip's stored picture and sound."""

    mp4: bytes
    """H.264, `num_frames` frames, every 16 a closed GOP, no B-frames, constant rate; empty where there are JPEGs."""
    jpegs: tuple[bytes, ...]
    """Every frame's baseline JPEG, 4:2:0; none where there is an mp4."""
    flac: bytes
    """24 kHz mono, 16 bit."""
    waveform: np.ndarray
    """float32, shape (samples,), 24 kHz mono: exactly what `flac` holds."""
    num_frames: int
    fps: Fraction
    decoded_frames: int
    """Of the clip, before its rate was changed."""


def recipe(encoding: Encoding) -> dict[str, object]:
    """Every number that decides the bytes of the frames and the sound, besides the clip and the tools' versions."""
    ours = {"h264": ("crf", "preset"), "jpeg": ("quality",)}
    others = {name for codec, names in ours.items() if codec != encoding.codec for name in names}
    own: dict[str, object] = {name: value for name, value in dataclasses.asdict(encoding).items() if name not in others}
    how: dict[str, object] = (
        {"gop": GOP, "x264": _X264} if encoding.codec == "h264" else {"subsampling": "420", "rgb": FULL_CHROMA}
    )
    scale = {"flags": ffmpeg.BIT_EXACT_SCALE, "shrunk_from": AREA_FROM, "shrunk_flags": AREA_SCALE}
    return own | how | {"scale": scale, "sample_rate": SAMPLE_RATE, "flac": _FLAC}


def versions(encoding: Encoding) -> dict[str, str]:
    """Of the tools that the bytes depend on besides the clip and the numbers: PyAV's mean rate decides that of the frames."""
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
) -> Encoded:
    """Decode a clip once and keep small frames and 24 kHz sound, both from time 0.

    `channel` is what the sound is made of (`channel_name`). Nothing after `most_seconds` is kept: the gap before a packet
    that says it comes much later would be filled. The bytes depend on the clip, the encoding and the tools' versions alone:
    one thread, a bit-exact scaler, fixed-point sound decoding, whole-number JPEGs. `scratch` is an existing folder. Raises
    MediaError where a stream is missing or does not decode, BadAspectError, and OutOfSyncError where what was made is
    longer or shorter than the clip.
    """
    if found.video is None or found.audio is None:
        raise MediaError("picture and sound are needed to make a sample")
    check_aspect(found.video)

    def made(hole: float) -> Encoded:
        return _encode(path, found, scratch, encoding, timeout_seconds, most_seconds, channel, hole)

    try:
        return made(HOLES_SECONDS[0])
    except OutOfSyncError:
        return made(HOLES_SECONDS[1])


def _encode(
    path: Path,
    found: Probe,
    scratch: Path,
    encoding: Encoding,
    timeout_seconds: float,
    most_seconds: float | None,
    channel: str,
    hole: float,
) -> Encoded:
    """As `encode`, with holes in the sound filled from so many seconds on."""
    shows, sounds = found.video, found.audio
    if shows is None or sounds is None:
        raise MediaError("picture and sound are needed to make a sample")
    rate = min(frame_rate(shows, path), Fraction(encoding.max_fps))
    most = math.inf if most_seconds is None else most_seconds
    skip = {"skip_loop_filter": "all"} if encoding.fast_decode else {}
    opened = ffmpeg.source(path, audio_codec=sounds.codec, **skip)
    shown = opened[str(shows.index)].filter("showinfo", checksum=0)
    heard = opened[str(sounds.index)].filter("ashowinfo")
    if most_seconds is not None:
        shown, heard = shown.filter("trim", end=most_seconds), heard.filter("atrim", end=most_seconds)
    picture = _small(shown, shows, rate=rate, encoding=encoding)
    sound = mono(heard, MIX if sounds.channels == 1 else channel, hole=hole)
    video, flac = scratch / "clip.video", scratch / "clip.flac"
    x264: dict[str, str | float] = {
        "vcodec": "libx264",
        "preset": encoding.preset,
        "crf": encoding.crf,
        "format": "mp4",
    }
    told = ffmpeg.run(
        ffmpeg.sink(picture, path=video, **(x264 | _X264 if encoding.codec == "h264" else _RGB)),
        ffmpeg.sink(sound, path=flac, format="flac", **_FLAC),
        timeout_seconds=timeout_seconds,
    )
    waveform, _ = soundfile.read(io.BytesIO(flac.read_bytes()), dtype="float32")  # it takes no name that is not UTF-8
    mp4, jpegs = b"", tuple[bytes, ...]()
    if encoding.codec == "h264":
        mp4 = video.read_bytes()
        count = _samples(mp4)
        _check_size(*_sides(mp4))
    else:
        jpegs = _jpegs(video, encoding.quality)
        count = len(jpegs)
    if count == 0 or waveform.size == 0:
        raise MediaError("nothing of its picture or sound could be decoded")
    _check_ends(told, pictures=float(count / rate), sound=waveform.size / SAMPLE_RATE, frame=float(1 / rate), most=most)
    return Encoded(
        mp4=mp4,
        jpegs=jpegs,
        flac=flac.read_bytes(),
        waveform=waveform,
        num_frames=count,
        fps=rate,
        decoded_frames=len(messages.frames(told)),
    )


def channel_name(index: int, count: int) -> str:
    """One of several channels as the manifest calls it: `left` or `right` of two, else its number from 0."""
    return ("left", "right")[index] if count == 2 else str(index)


def mono(sound: Any, channel: str = MIX, *, hole: float = 0.1, rate: int = SAMPLE_RATE) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """The sound that a shard keeps: mono from time 0 at `rate` Hz, of all channels or one.

    A late start becomes silence, and so do holes of `hole` seconds and more.
    """
    if channel != MIX:
        number = {"left": "0", "right": "1"}.get(channel, channel)
        sound = sound.filter("channelmap", map=number, channel_layout="mono")
    fill = {"async": 1, "min_hard_comp": hole, "first_pts": 0}
    return sound.filter("aresample", str(rate), tsf="s16p", osf="s16", ochl="mono", **fill)


def _check_ends(told: str, *, pictures: float, sound: float, frame: float, most: float) -> None:
    """Raise OutOfSyncError unless so many seconds of picture and of sound are as long as the clip's own, up to `most`.

    A last frame whose duration is not known counts as one of the stored ones.
    """
    last, end = max((times for times in messages.frames(told) if times[0] < most), default=(0.0, 0.0))
    earliest, latest = min(last + frame, most), min(max(end, last + frame), most)
    blocks = messages.blocks(told)
    pieces = timeline.arrange(blocks, end=None if math.isinf(most) else round(most * blocks[0].rate)) if blocks else []
    heard = (pieces[-1].place + pieces[-1].length) / blocks[0].rate if pieces else 0.0
    near = max(frame, ENDS_SECONDS)
    if not earliest - near <= pictures <= latest + near or abs(sound - heard) > STEP_SECONDS:
        raise OutOfSyncError(
            f"{pictures:.3f} s of picture and {sound:.3f} s of sound were made of a clip of {latest:.3f} and {heard:.3f} s"
        )


def _small(picture: Any, video: Video, *, rate: Fraction, encoding: Encoding) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """The picture at its stored rate and size, in the colours that its codec takes."""
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
    """What `scale` is told so that the shorter side has so many pixels, the longer an even number, and pixels are square."""
    return {
        "w": f"if(gte(dar,1),2*ceil({short_side}*dar/2-0.001),{short_side})",
        "h": f"if(gte(dar,1),{short_side},2*ceil({short_side}/dar/2-0.001))",
    }


def _samples(mp4: bytes) -> int:
    """Frames of an mp4 of ours: its one track's table of sizes (`stsz`), which lies at its end, counts them."""
    table = mp4.rfind(b"stsz")
    return int.from_bytes(mp4[table + 12 : table + 16]) if table >= 0 else 0


def _sides(mp4: bytes) -> tuple[int, int]:
    """Width and height of an mp4 of ours, from its one sample entry (`avc1`); none where it has no frame."""
    entry = mp4.rfind(b"avc1")
    return int.from_bytes(mp4[entry + 28 : entry + 30]), int.from_bytes(mp4[entry + 30 : entry + 32])


def _check_size(width: int, height: int) -> None:
    """Raise TooLargeError for a frame that nobody would read again."""
    if width * height > MAX_PIXELS:
        raise ffmpeg.TooLargeError(f"its frames would be {width} x {height}, more than {MAX_PIXELS} pixels")


def _jpegs(path: Path, quality: int) -> tuple[bytes, ...]:
    """Each picture of a file of PPMs as a JPEG."""
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
