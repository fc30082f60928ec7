"""Select the formats of a video that are closest to the upload.

yt-dlp's own order prefers quality: a dub with a better codec, an upscaled picture, compressed audio. Here the original comes
first, and yt-dlp's order only breaks ties.
"""

import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...clip import Status
from ...quantities import first_of
from ..youtube.errors import RefusedError

Format = Mapping[str, Any]
"""An entry of `formats` in yt-dlp's info dict."""

SHORT_SIDE = 480
"""Preferred shorter side of the picture in pixels: the largest format up to it, else the smallest above."""
TRACKS = ("descriptive", "dubbed-auto", "dubbed", "secondary", "unknown", "default", "", "original")
"""Kinds of audio track, worst first. `default`: the players' choice, no further information. `unknown`: one of several tracks
without information. Empty: the only track, without information."""
ORIGINAL = ("", "original")
"""Kinds of the audio as uploaded."""
_TOLD = ("descriptive", "dubbed-auto", "dubbed", "secondary", "original")
"""Kinds that a URL or a name may state, in this order: yt-dlp appends `(original)` to all tracks of that language."""
_QUALITY = re.compile(r"[a-z_]+|hd\d+|\d+[ps]\d*\b.*|DRC")
"""Start of the note of a format whose track has no name, such as `medium`, `360p`, `720p60` or `360s` (spherical): names begin
with a capital letter."""
_LANGUAGE = re.compile(r"[A-Za-z0-9-]{1,35}")
_TAGS = re.compile(r"\bxtags[=/]([\w=:.-]+)")
_SURROUND = ("ac-3", "ec-3", "ac-4")
"""Codecs with more than two channels; an HLS manifest does not give their number."""
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
    """The selected formats of a video."""

    format_ids: str = ""
    """As yt-dlp names them: `136+140`."""
    language: str = ""
    """Language of the audio; empty if unknown."""
    track: str = ""
    """Kind of the audio, one of `TRACKS`."""
    told: tuple[str, ...] = ()
    """`picture` and `sound`, for each with a known codec; a file may still lack either."""
    hdr: bool = False
    """Whether the picture is stated to be HDR."""


def select(context: Mapping[str, Any], *, container: str) -> Iterator[Format]:
    """yt-dlp's `format` as a function: a picture and an audio format to merge into a `container`, or one with both.

    Order of preference: original audio, picture that is not upscaled, audio without compression or boost, standard dynamic range,
    at most two channels; then 480 lines, separate picture and audio, and yt-dlp's order. Yields the best last. Raises
    RefusedError (no_formats) if there is no picture or no audio.
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
        raise RefusedError(Status.NO_FORMATS, f"no {lacks} is available now, only the formats {there}")
    picture, sound = max(ways, key=lambda way: together(*way))
    yield picture if picture is sound else _merged(picture, sound, container)


def chosen(info: Mapping[str, Any]) -> Chosen:
    """Selected formats, from yt-dlp's info dict after the selection by us or by the user's own option.

    Raises RefusedError (no_formats) if they lack picture or audio.
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
    """Audio tracks among a video's formats, for messages: `de-DE default, fr dubbed-auto`."""
    formats = info.get("formats") or [info]
    kinds = tracks(formats)
    names = sorted({f"{_language(each)} {kinds[each['format_id']]}".strip() for each in formats if hears(each)})
    return first_of(names, most)


def tracks(formats: Iterable[Format]) -> dict[str, str]:
    """Kind of audio of each format that has any, by format ID.

    If any format states a kind, or has a named track, the video has several tracks: formats without information are `unknown`
    then, because a combined format has the audio that players choose.
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
    """Kind stated by the URL, the name or yt-dlp; names may be translated, URLs are not."""
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
    """Tags in YouTube's URL of a format, such as `acont=dubbed-auto`, `lang=de`, `drc=1`; nested ones too."""
    address = urllib.parse.unquote(urllib.parse.unquote(f"{each.get('url')} {each.get('fragment_base_url')}"))
    pairs = (pair.partition("=") for found in _TAGS.findall(address) for pair in found.split(":"))
    return {name: value for name, _, value in pairs}


def _language(sound: Format) -> str:
    told = str(sound.get("language") or _tags(sound).get("lang") or "").removesuffix("-desc")
    return told if _LANGUAGE.fullmatch(told) else ""


def shows(each: Format) -> bool:
    """Whether the format has a picture, as far as known."""
    return each.get("vcodec") != "none"


def hears(each: Format) -> bool:
    """Whether the format has audio, as far as known."""
    return each.get("acodec") != "none"


def _intact(each: Format) -> bool:
    return (each.get("preference") or 0) > _DAMAGED and not each.get("has_drm")


def _native(picture: Format) -> bool:
    """Whether the picture is not upscaled by a model."""
    return "sr" not in _words(picture) and _tags(picture).get("sr") != "1"


def _plain(sound: Format) -> bool:
    """Whether the audio is neither dynamically compressed nor voice-boosted."""
    return not {"drc", "vb"} & _words(sound) and "1" not in (_tags(sound).get("drc"), _tags(sound).get("vb"))


def _words(each: Format) -> set[str]:
    return set(str(each["format_id"]).split("-"))


def _sdr(picture: Format) -> bool:
    return (picture.get("dynamic_range") or "SDR") == "SDR"


def _narrow(sound: Format) -> bool:
    """Whether the audio is mono or stereo: not 5.1 or ambisonic."""
    return (sound.get("audio_channels") or 2) <= 2 and not str(sound.get("acodec")).startswith(_SURROUND)


def _lines(picture: Format) -> tuple[bool, int]:
    short = min((side for side in (picture.get("width"), picture.get("height")) if side), default=0)
    return (True, short) if short <= SHORT_SIDE else (False, -short)


def _merged(picture: Format, sound: Format, container: str) -> Format:
    """Combine two formats into one for yt-dlp; audio of the picture format is dropped.

    For a section yt-dlp takes the stream of this number, by default the first: a file may begin with its audio.
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
