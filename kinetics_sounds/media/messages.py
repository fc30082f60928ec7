"""Parse ffmpeg's messages: times of frames and audio blocks, levels, decoding errors."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

SILENCE_DB = -200.0
"""Level that stands for digital silence, whose logarithm is not finite."""


class Block(NamedTuple):
    """Audio samples that were decoded together."""

    start: int
    """Start in samples from time 0."""
    length: int
    """Samples per channel."""
    rate: int
    """Sample rate in hertz."""
    channels: int

    @property
    def seconds(self) -> tuple[float, float]:
        """Start and end in seconds."""
        return self.start / self.rate, (self.start + self.length) / self.rate


def frames(messages: str) -> list[tuple[float, float]]:
    """Start and end in seconds of each frame seen by the first `showinfo` filter; the end equals the start if unknown."""
    base, times = Fraction(0), list[tuple[float, float]]()
    for text in _of_filter(messages, "showinfo"):
        if config := re.match(r"config in time_base: (\d+)/(\d+)", text):
            base = Fraction(int(config[1]), max(int(config[2]), 1))
        elif frame := re.match(r"n: *\d+ pts: *(-?\d+) .*?duration: *(-?\d+) ", text):
            start = int(frame[1]) * base
            times.append((float(start), float(start + max(int(frame[2]), 0) * base)))
    return times


def blocks(messages: str, *, second: bool = False) -> list[Block]:
    """Each audio block seen by the first `ashowinfo` filter of a graph, or by the second."""
    pattern = re.compile(r"n: *\d+ pts: *(-?\d+) .*?channels:(\d+) .*?rate:(\d+) nb_samples:(\d+)")
    found = (pattern.match(text) for text in _of_filter(messages, "ashowinfo", 1 if second else 0))
    return [Block(int(each[1]), int(each[4]), int(each[3]), int(each[2])) for each in found if each]


def levels_db(messages: str) -> list[float]:
    """RMS level per channel from the first `astats` filter; at least SILENCE_DB."""
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
    """RMS level over all channels from the last `astats` filter; at least SILENCE_DB."""
    told = [text for text in _of_filter(messages, "astats", -1) if text.startswith("RMS level dB: ")]
    return _level(told[-1].removeprefix("RMS level dB: ")) if told else SILENCE_DB


def _level(text: str) -> float:
    level = float(text)
    return SILENCE_DB if math.isnan(level) else max(level, SILENCE_DB)


def still_seconds(messages: str, *, end: float) -> float:
    """Total time without change, from `freezedetect`; a still picture up to the end has no end time of its own."""
    times: dict[str, list[float]] = {"start": [], "end": []}
    for text in _of_filter(messages, "freezedetect"):
        if found := re.match(r"lavfi\.freezedetect\.freeze_(start|end): (\S+)", text):
            times[found[1]].append(float(found[2]))
    return sum((*times["end"], end)[: len(times["start"])]) - sum(times["start"])


def rotation(messages: str, index: int) -> int:
    """Degrees clockwise by which a picture stream's display matrix rotates it, from the description of the input."""
    described = messages.partition("\nOutput #")[0]
    stream = re.search(rf"^  Stream #0:{index}\b.*\n((?:    .*\n)*)", described, flags=re.MULTILINE)
    turned = re.search(
        r"^      Display Matrix: rotation of (-?[\d.]+) degrees", stream[1] if stream else "", re.MULTILINE
    )
    return round(-float(turned[1])) % 360 if turned else 0


def size(messages: str) -> tuple[int, int] | None:
    """Width and height of the first output's first stream; None if there is none."""
    found = re.findall(r"^  Stream #0:0.*: Video: .*?, (\d+)x(\d+)[ ,\[]", messages, flags=re.MULTILINE)
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def reconfigured(messages: str) -> bool:
    """Whether a stream changed its size, format, rate or channels, so that ffmpeg rebuilt its filters."""
    return (
        re.search(r"^\[.*\] Reconfiguring filter graph because .* parameters changed", messages, re.MULTILINE)
        is not None
    )


def garbled(messages: str) -> bool:
    """Whether a line about a frame or audio block lacks its filter's name, so that the functions here miss it.

    ffmpeg's threads share one log: while one writes a line in pieces (here the description of an output), another's line may
    lose its prefix (2 of 2,000 runs on a busy machine). Metadata of an input come before the first output.
    """
    told = messages.partition("\nOutput #")[2]
    return re.search(r"^(?!\[Parsed_).*n: *\d+ pts: *-?\d+ pts_time:", told, re.MULTILINE) is not None


def decode_errors(messages: str, streams: Literal["v", "a", "va"] = "va") -> int:
    """Number of frames or packets that decoders of picture (v) or audio (a) complained about.

    A complaint written while another thread is within a line has no prefix and is counted for the picture. Indented lines are
    metadata of the file and may contain anything.
    """
    complaint = r"(?:corrupt decoded frame|(?:Error submitting packet to decoder|Decoding error): .*)$"
    whose = re.findall(rf"^(?:\[([va])ist#.*\] |(?! {{4}}).*?){complaint}", messages, flags=re.MULTILINE)
    return sum((each or "v") in streams for each in whose)


def _of_filter(messages: str, name: str, which: int = 0) -> Sequence[str]:
    """Lines of one of the filters of a kind, by its index in the graph; -1 is the last one with output."""
    lines: dict[int, list[str]] = {}
    for number, text in re.findall(rf"^\[Parsed_{name}_(\d+) @ [^\]]+\] (.*)$", messages, flags=re.MULTILINE):
        lines.setdefault(int(number), []).append(text.strip())
    spoken = [lines[number] for number in sorted(lines)]
    return spoken[which] if which < len(spoken) and spoken else ()
