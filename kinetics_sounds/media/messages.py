"""What ffmpeg's messages tell: when frames and blocks of samples come, how loud they are, what does not decode."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

SILENCE_DB = -200.0
"""What stands for the level of digital silence, whose logarithm has no value."""


class Block(NamedTuple):
    """Samples that were decoded together."""

    start: int
    """In samples, from time 0."""
    length: int
    """Samples of each channel."""
    rate: int
    """Hertz."""
    channels: int

    @property
    def seconds(self) -> tuple[float, float]:
        """Start and end."""
        return self.start / self.rate, (self.start + self.length) / self.rate


def frames(messages: str) -> list[tuple[float, float]]:
    """Start and end in seconds of each frame that the first `showinfo` of a graph passed; the end is the start where unknown."""
    base, times = Fraction(0), list[tuple[float, float]]()
    for text in _of_filter(messages, "showinfo"):
        if config := re.match(r"config in time_base: (\d+)/(\d+)", text):
            base = Fraction(int(config[1]), max(int(config[2]), 1))
        elif frame := re.match(r"n: *\d+ pts: *(-?\d+) .*?duration: *(-?\d+) ", text):
            start = int(frame[1]) * base
            times.append((float(start), float(start + max(int(frame[2]), 0) * base)))
    return times


def blocks(messages: str, *, second: bool = False) -> list[Block]:
    """Each block of samples that the first `ashowinfo` of a graph passed, or the second one behind it."""
    pattern = re.compile(r"n: *\d+ pts: *(-?\d+) .*?channels:(\d+) .*?rate:(\d+) nb_samples:(\d+)")
    found = (pattern.match(text) for text in _of_filter(messages, "ashowinfo", 1 if second else 0))
    return [Block(int(each[1]), int(each[4]), int(each[3]), int(each[2])) for each in found if each]


def levels_db(messages: str) -> list[float]:
    """RMS level of each channel that the first `astats` of a graph saw; SILENCE_DB at the least."""
    channels: dict[int, float] = {}
    channel = 0
    for text in _of_filter(messages, "astats"):
        if head := re.match(r"Channel: (\d+)", text):
            channel = int(head[1])
        elif text.startswith("Overall"):
            channel = 0
        elif channel and (level := re.match(r"RMS level dB: (\S+)", text)):
            channels[channel] = _level(level[1])
    return [channels[number] for number in sorted(channels)]


def level_db(messages: str) -> float:
    """RMS level over all channels that the last `astats` of a graph saw; SILENCE_DB at the least."""
    told = [text for text in _of_filter(messages, "astats", -1) if text.startswith("RMS level dB: ")]
    return _level(told[-1].removeprefix("RMS level dB: ")) if told else SILENCE_DB


def _level(text: str) -> float:
    level = float(text)
    return SILENCE_DB if math.isnan(level) else max(level, SILENCE_DB)


def still_seconds(messages: str, *, end: float) -> float:
    """Time in which `freezedetect` saw no change; a picture that stays the same to the end has no end of its own."""
    times: dict[str, list[float]] = {"start": [], "end": []}
    for text in _of_filter(messages, "freezedetect"):
        if found := re.match(r"lavfi\.freezedetect\.freeze_(start|end): (\S+)", text):
            times[found[1]].append(float(found[2]))
    return sum((*times["end"], end)[: len(times["start"])]) - sum(times["start"])


def rotation(messages: str, index: int) -> int:
    """Degrees clockwise by which a picture stream's display matrix turns it, from how ffmpeg describes its input."""
    described = messages.partition("\nOutput #")[0]
    stream = re.search(rf"^  Stream #0:{index}\b.*\n((?:    .*\n)*)", described, flags=re.MULTILINE)
    turned = re.search(
        r"^      Display Matrix: rotation of (-?[\d.]+) degrees", stream[1] if stream else "", re.MULTILINE
    )
    return round(-float(turned[1])) % 360 if turned else 0


def size(messages: str) -> tuple[int, int] | None:
    """Width and height of the picture that the first output's first stream was given; None where there is none."""
    found = re.findall(r"^  Stream #0:0.*: Video: .*?, (\d+)x(\d+)[ ,\[]", messages, flags=re.MULTILINE)
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def reconfigured(messages: str) -> bool:
    """Whether a stream changed its size, format, rate or channels, so that ffmpeg built its filters anew."""
    return (
        re.search(r"^\[.*\] Reconfiguring filter graph because .* parameters changed", messages, re.MULTILINE)
        is not None
    )


def torn(messages: str) -> bool:
    """Whether a frame or block of samples is told of without its filter's name, so that the functions here miss it.

    ffmpeg's threads share one log: while one of them writes a line in pieces, here the description of an output, another's
    line comes without its prefix (two of 2,000 runs on a busy machine). Titles of an input stand before the first output.
    """
    told = messages.partition("\nOutput #")[2]
    return re.search(r"^(?!\[Parsed_).*n: *\d+ pts: *-?\d+ pts_time:", told, re.MULTILINE) is not None


def decode_errors(messages: str, streams: Literal["v", "a", "va"] = "va") -> int:
    """What decoders of picture (v) or sound (a) complained of, once a frame or packet.

    A complaint that comes while another thread is within a line has no prefix: it is taken for the picture's. What is
    indented is a title in the file, which may say anything.
    """
    complaint = r"(?:corrupt decoded frame|(?:Error submitting packet to decoder|Decoding error): .*)$"
    whose = re.findall(rf"^(?:\[([va])ist#.*\] |(?! {{4}}).*?){complaint}", messages, flags=re.MULTILINE)
    return sum((each or "v") in streams for each in whose)


def _of_filter(messages: str, name: str, which: int = 0) -> Sequence[str]:
    """What one of a graph's filters of a kind said, counted from 0 in the order of the graph; -1 is the last that spoke."""
    lines: dict[int, list[str]] = {}
    for number, text in re.findall(rf"^\[Parsed_{name}_(\d+) @ [^\]]+\] (.*)$", messages, flags=re.MULTILINE):
        lines.setdefault(int(number), []).append(text.strip())
    spoken = [lines[number] for number in sorted(lines)]
    return spoken[which] if which < len(spoken) and spoken else ()
