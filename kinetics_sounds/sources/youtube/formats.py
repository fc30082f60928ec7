"""Of the formats that yt-dlp lists for a video, those that are closest to what was uploaded.

yt-dlp's own order takes the best: a dub in a better codec, an upscaled picture, compressed sound. Here the original comes first,
and yt-dlp's order decides between formats that are alike in that.
"""

import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...clip import Status
from ..youtube.errors import RefusedError

Format = Mapping[str, Any]
"""One entry of `formats` in yt-dlp's info dict."""

SHORT_SIDE = 480
"""Pixels of a picture's shorter side, upright or not: the most up to it is taken, else the least above."""
TRACKS = ("descriptive", "dubbed-auto", "dubbed", "secondary", "unknown", "default", "", "original")
"""Kinds of sound track, the better the later. `default`: players choose it, and no more is told. `unknown`: one of several, and
nothing is told. Empty: nothing is told, and there is no other."""
ORIGINAL = ("", "original")
"""Kinds that are the sound as it was uploaded."""
_TOLD = ("descriptive", "dubbed-auto", "dubbed", "secondary", "original")
"""Kinds that an address or a name tells; the first counts: yt-dlp adds `(original)` to all of that language."""
_QUALITY = re.compile(r"[a-z_]+|hd\d+|\d+[ps]\d*\b.*|DRC")
"""What a format's note begins with where its track has no name, such as `medium`, `360p`, `720p60` or `360s` (spherical):
names begin with a capital."""
_LANGUAGE = re.compile(r"[A-Za-z0-9-]{1,35}")
_TAGS = re.compile(r"\bxtags[=/]([\w=:.-]+)")
_SURROUND = ("ac-3", "ec-3", "ac-4")
"""Codecs of more than two channels, whose number an HLS manifest does not tell."""
_DAMAGED = -10
"""yt-dlp's preference for a stream that is much shorter than its video."""
_OF_PICTURE = (
    "width",
    "height",
    "resolution",
    "fps",
    "dynamic_range",
    "vcodec",
    "vbr",
    "stretched_ratio",
    "aspect_ratio",
)
_OF_SOUND = ("acodec", "abr", "asr", "audio_channels", "language", "format_note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Of a video's formats, those that are downloaded."""

    format_ids: str = ""
    """As yt-dlp names them: `136+140`."""
    language: str = ""
    """Of the sound; empty where it is not told."""
    track: str = ""
    """Kind of the sound, one of `TRACKS`."""
    told: tuple[str, ...] = ()
    """`picture` and `sound`, where a codec is told; a file may hold either without."""
    hdr: bool = False
    """The picture is told to be of a high dynamic range."""


def select(context: Mapping[str, Any], *, container: str) -> Iterator[Format]:
    """yt-dlp's `format` as a function: a picture and a sound to be merged into a `container`, or a format that holds both.

    First the original sound, then a picture that is not upscaled, sound that is not compressed or boosted, standard dynamic
    range, no more than two channels; then 480 lines, a picture and a sound of their own, and yt-dlp's order, the best last.
    Raises RefusedError (no_formats) where there is no picture or no sound.
    """
    formats = list(context["formats"])
    kinds = tracks(formats)
    order = {each["format_id"]: number for number, each in enumerate(formats)}

    def of_sound(sound: Format) -> tuple[Any, ...]:
        number = order[sound["format_id"]]
        return TRACKS.index(kinds[sound["format_id"]]), _intact(sound), _plain(sound), _narrow(sound), number

    def of_picture(picture: Format) -> tuple[Any, ...]:
        number = order[picture["format_id"]]
        return _intact(picture), _native(picture), _sdr(picture), _lines(picture), number

    def together(picture: Format, sound: Format) -> tuple[Any, ...]:
        track, whole_sound, plain, narrow, last = of_sound(sound)
        whole_picture, native, sdr, lines, number = of_picture(picture)
        apart = 2 if not hears(picture) else 1 if picture is sound else 0  # at worst the picture of one that has both
        return track, whole_picture and whole_sound, native, plain, sdr, narrow, lines, apart, number, last

    both = [each for each in formats if shows(each) and hears(each)]
    pictures = [each for each in formats if shows(each) and not hears(each)]
    sounds = [each for each in formats if hears(each) and not shows(each)]
    ways = [(each, each) for each in both]
    if sounds:
        best = max(sounds, key=of_sound)
        ways += [(max(some, key=of_picture), best) for some in (pictures, both) if some]
    if not ways:
        lacks = "sound" if pictures else "picture" if sounds else "picture and no sound"
        there = " ".join(str(each["format_id"]) for each in (*pictures, *sounds)) or "none"
        raise RefusedError(Status.NO_FORMATS, f"no {lacks} is offered now, only the formats {there}")
    picture, sound = max(ways, key=lambda way: together(*way))
    yield picture if picture is sound else _merged(picture, sound, container)


def chosen(info: Mapping[str, Any]) -> Chosen:
    """What of a video's formats is downloaded: `info` is yt-dlp's info dict with a choice made, ours or the user's own.

    Raises RefusedError (no_formats) where that has no picture or no sound.
    """
    parts = info.get("requested_formats") or [info]
    ids = re.sub(r"[^\w.+-]", "_", "+".join(str(each.get("format_id") or "") for each in parts))[:100]
    heard, seen = [each for each in parts if hears(each)], [each for each in parts if shows(each)]
    if not heard or not seen:
        raise RefusedError(Status.NO_FORMATS, f"the format {ids} has no {'picture' if heard else 'sound'}")
    kinds = tracks(info.get("formats") or [info])
    sound = min(heard, key=lambda each: TRACKS.index(kinds[each["format_id"]]))
    codecs = {"picture": seen[0].get("vcodec"), "sound": sound.get("acodec")}
    return Chosen(
        format_ids=ids,
        language=_language(sound),
        track=kinds[sound["format_id"]],
        told=tuple(name for name, codec in codecs.items() if codec),
        hdr=not _sdr(seen[0]),
    )


def offered(info: Mapping[str, Any], *, most: int = 5) -> str:
    """The sound tracks among a video's formats, for people: `de-DE default, fr dubbed-auto`."""
    formats = info.get("formats") or [info]
    kinds = tracks(formats)
    names = sorted({f"{_language(each)} {kinds[each['format_id']]}".strip() for each in formats if hears(each)})
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def tracks(formats: Iterable[Format]) -> dict[str, str]:
    """The kind of the sound of each format that has one, by its id.

    Where one format tells a kind, or has a track of a name, the video has several: then nothing told is `unknown`, for
    what holds picture and sound together comes with the sound that players choose.
    """
    heard = [each for each in formats if hears(each)]
    kinds = {each["format_id"]: _kind(each) for each in heard}
    # YouTube names its tracks; elsewhere the language alone may differ. yt-dlp gives what has none the language of the captions,
    # in HLS all that hold a picture too: these are compared with each other alone.
    guessed = [each for each in heard if each.get("language_preference") is None]
    alone, muxed = (
        {_language(each).partition("-")[0] for each in guessed if shows(each) is seen} for seen in (False, True)
    )
    several = any(kinds.values()) or max(len(alone - {""}), len(muxed - {""})) > 1
    return {name: kind or ("unknown" if several else "") for name, kind in kinds.items()}


def _kind(sound: Format) -> str:
    """What the address, the name or yt-dlp tells; names may be in another language, the address is not."""
    if (told := _tags(sound).get("acont")) in _TOLD:
        return str(told)
    note, preference = str(sound.get("format_note") or ""), sound.get("language_preference")
    for kind in _TOLD:
        if kind in note.lower():
            return kind
    if preference is None or not sound.get("language"):
        return ""
    if preference > 0:
        return "default"
    return "" if _QUALITY.fullmatch(note.partition(",")[0]) or not note else "unknown"


def _tags(each: Format) -> dict[str, str]:
    """What YouTube's address says of a format, such as `acont=dubbed-auto`, `lang=de`, `drc=1`; also where it is nested."""
    address = urllib.parse.unquote(urllib.parse.unquote(f"{each.get('url')} {each.get('fragment_base_url')}"))
    pairs = (pair.partition("=") for found in _TAGS.findall(address) for pair in found.split(":"))
    return {name: value for name, _, value in pairs}


def _language(sound: Format) -> str:
    told = str(sound.get("language") or _tags(sound).get("lang") or "").removesuffix("-desc")
    return told if _LANGUAGE.fullmatch(told) else ""


def shows(each: Format) -> bool:
    """Whether there is a picture, as far as is told."""
    return each.get("vcodec") != "none"


def hears(each: Format) -> bool:
    """Whether there is sound, as far as is told."""
    return each.get("acodec") != "none"


def _intact(each: Format) -> bool:
    return (each.get("preference") or 0) > _DAMAGED and not each.get("has_drm")


def _native(picture: Format) -> bool:
    """Not upscaled by a model."""
    return "sr" not in _words(picture) and _tags(picture).get("sr") != "1"


def _plain(sound: Format) -> bool:
    """Neither compressed in its dynamics nor with its voices boosted."""
    return not {"drc", "vb"} & _words(sound) and "1" not in (_tags(sound).get("drc"), _tags(sound).get("vb"))


def _words(each: Format) -> set[str]:
    return set(str(each["format_id"]).split("-"))


def _sdr(picture: Format) -> bool:
    return (picture.get("dynamic_range") or "SDR") == "SDR"


def _narrow(sound: Format) -> bool:
    """Mono or stereo: no 5.1, no ambisonics."""
    return (sound.get("audio_channels") or 2) <= 2 and not str(sound.get("acodec")).startswith(_SURROUND)


def _lines(picture: Format) -> tuple[bool, int]:
    short = min((side for side in (picture.get("width"), picture.get("height")) if side), default=0)
    return (True, short) if short <= SHORT_SIDE else (False, -short)


def _merged(picture: Format, sound: Format, container: str) -> Format:
    """Two formats as yt-dlp takes them for one; of the picture's own sound, if it has one, nothing is kept.

    Of a section yt-dlp takes the stream of this number, by default the first: a file may begin with its sound.
    """
    alone = {"manifest_stream_number": "v:0", **picture, "acodec": "none"}
    sound = {"manifest_stream_number": "a:0", **sound}
    return {
        **{name: picture.get(name) for name in _OF_PICTURE},
        **{name: sound.get(name) for name in _OF_SOUND},
        "requested_formats": [alone, sound],
        "format_id": f"{picture['format_id']}+{sound['format_id']}",
        "format": f"{picture.get('format')}+{sound.get('format')}",
        "protocol": f"{picture.get('protocol')}+{sound.get('protocol')}",
        "ext": container,
    }
