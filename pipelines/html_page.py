"""A single HTML file that shows a run: scores, curves, and samples, without scripts or network access.

Media are embedded as data URIs, a strict content security policy forbids everything else, and every string is escaped.
"""

import base64
import html
import io
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kinetics_sounds import files
from kinetics_sounds.shards import layout

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --page: #f6f5f2; --card: #fff; --ink: #22242a; --dim: #6a6d76; --line: #dcdad3;
  --accent: #a3306d; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15161a; --card: #1e2026; --ink: #e6e6e3; --dim: #9b9ea8; --line: #343740; --accent: #f08a5d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 72rem; margin: auto; padding: 2rem clamp(1rem, 4vw, 2.5rem) 4rem; }
h1 { font-size: clamp(1.5rem, 5vw, 2.2rem); line-height: 1.2; margin: 0 0 1rem; text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .8rem; }
p { max-width: 46rem; margin: .4rem 0; }
h1, p, td, th, figcaption { overflow-wrap: anywhere; }
figure { margin: 0; padding: .8rem; background: var(--card); border: 1px solid var(--line); border-radius: .7rem; }
.grid { display: grid; gap: 1rem; }
.curves { grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.samples { grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .7rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .9rem; text-align: left; min-width: 6rem; }
th { color: var(--dim); font-size: .85rem; font-weight: 600; }
tbody tr { border-top: 1px solid var(--line); }
.number { text-align: right; }
svg { display: block; width: 100%; height: auto; font-size: 11px; }
svg text { fill: var(--dim); }
svg line { stroke: var(--line); }
svg polyline { fill: none; stroke: var(--accent); stroke-width: 1.8; stroke-linejoin: round; }
svg circle { fill: var(--accent); }
video, audio, img { display: block; width: 100%; }
video { aspect-ratio: 1; background: #000; border-radius: .4rem; object-fit: contain; image-rendering: pixelated; }
img { height: 6rem; margin: .6rem 0; border-radius: .4rem; image-rendering: pixelated; }
audio { height: 2.4rem; }
figcaption { margin-top: .6rem; }
small { display: block; color: var(--dim); font-size: .8rem; }
.curves figcaption { display: flex; justify-content: space-between; gap: 1rem; margin: 0 0 .4rem; }
"""

_GLOW = np.array(
    [
        (6, 8, 26),
        (34, 26, 84),
        (88, 28, 116),
        (146, 36, 118),
        (200, 60, 96),
        (236, 110, 66),
        (250, 176, 84),
        (252, 244, 196),
    ]
)
"""Colour map with steps of about equal lightness."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A clip to show."""

    key: str
    label: str
    video: bytes
    """Contents of an mp4 file."""
    audio: bytes
    """Contents of a FLAC file."""
    mel_FT: npt.NDArray[np.floating]
    """Mel-spectrogram, low bands first, values from 0 to 1 [shape=(bands, columns)]."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A value over the course of a run."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


def write(
    path: Path,
    *,
    title: str,
    lines: Sequence[str],
    samples: Sequence[Sample],
    curves: Sequence[Curve],
    scores: Sequence[Mapping[str, str | float]],
) -> None:
    """Write the page to path atomically; empty sections are left out."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>",
        f"<body><main><h1>{html.escape(title)}</h1>",
        *(f"<p>{html.escape(line)}</p>" for line in lines),
        _section("Scores", "scroll", [_table(scores)] if scores else []),
        _section("Curves", "grid curves", map(_chart, curves)),
        _section("Samples", "grid samples", map(_card, samples)),
        "</main></body></html>\n",
    ]
    with files.atomic_writer(path) as out:
        out.write("\n".join(part for part in parts if part).encode(errors="replace"))


def _section(heading: str, layout: str, items: Iterable[str]) -> str:
    body = "\n".join(items)
    return f'<section><h2>{heading}</h2><div class="{layout}">\n{body}\n</div></section>' if body else ""


def _table(scores: Sequence[Mapping[str, str | float]]) -> str:
    columns = list(dict.fromkeys(name for row in scores for name in row))
    numeric = {name for name in columns if not any(isinstance(row.get(name), str) for row in scores)}

    def cells(tag: str, texts: Iterable[str]) -> str:
        marks = (' class="number"' if name in numeric else "" for name in columns)
        return "".join(f"<{tag}{mark}>{html.escape(text)}</{tag}>" for mark, text in zip(marks, texts, strict=True))

    rows = "".join(f"<tr>{cells('td', (_text(row.get(name, '')) for name in columns))}</tr>" for row in scores)
    return f"<table><thead><tr>{cells('th', columns)}</tr></thead><tbody>{rows}</tbody></table>"


def _text(value: str | float) -> str:
    """A number with four digits, without an exponent where unusual."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


def _chart(curve: Curve) -> str:
    width, height, left, right, top, bottom = 340, 200, 48, 12, 8, 34
    pairs = list(zip(curve.steps, curve.values, strict=True))
    points = [pair for pair in pairs if all(map(math.isfinite, pair))]
    name, left_out = html.escape(curve.name), len(pairs) - len(points)
    remark = f"<small>{left_out} of {len(pairs)} values not finite, left out</small>" if left_out else ""
    if not points:
        return f"<figure><figcaption><b>{name}</b></figcaption>{remark or '<small>no values</small>'}</figure>"

    (x_low, x_high), (y_low, y_high) = (_range(axis) for axis in zip(*points, strict=True))

    def across(step: float) -> float:
        return left + (width - left - right) * (step - x_low) / (x_high - x_low)

    def down(value: float) -> float:
        return top + (height - top - bottom) * (y_high - value) / (y_high - y_low)

    floor, end = height - bottom, width - right
    marks = [
        f'<line x1="{left}" x2="{end}" y1="{down(tick):.1f}" y2="{down(tick):.1f}"/>'
        f'<text x="{left - 6}" y="{down(tick) + 4:.1f}" text-anchor="end">{_text(tick)}</text>'
        for tick in ticks(y_low, y_high)
    ] + [
        f'<line x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{floor}" y2="{floor + 4}"/>'
        f'<text x="{across(tick):.1f}" y="{floor + 15}" text-anchor="middle">{_text(tick)}</text>'
        for tick in ticks(x_low, x_high)
    ]
    track = " ".join(f"{across(step):.1f},{down(value):.1f}" for step, value in points)
    last_step, last_value = points[-1]
    return (
        f"<figure><figcaption><b>{name}</b><span>{_text(last_value)}</span></figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name} by step">{"".join(marks)}'
        f'<line x1="{left}" x2="{left}" y1="{top}" y2="{floor}"/>'
        f'<line x1="{left}" x2="{end}" y1="{floor}" y2="{floor}"/>'
        f'<text x="{(left + end) / 2}" y="{height - 3}" text-anchor="middle">step</text><polyline points="{track}"/>'
        f'<circle cx="{across(last_step):.1f}" cy="{down(last_value):.1f}" r="3"/></svg>{remark}</figure>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0 if low < high else max(0.5, abs(low) / 10)
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """Round tick values from low to high: two to five of them, spaced 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    apart = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= (high - low) / 4)
    return [apart * count for count in range(math.ceil(low / apart), math.floor(high / apart) + 1)]


def _card(sample: Sample) -> str:
    label, key = html.escape(sample.label), html.escape(sample.key)
    return (
        f'<figure><video controls loop playsinline preload="metadata" src="{_data("video/mp4", sample.video)}"></video>'
        f'<img alt="mel spectrogram of {key}" src="{_data("image/png", png(sample.mel_FT))}">'
        f'<audio controls preload="metadata" src="{_data("audio/flac", sample.audio)}"></audio>'
        f"<figcaption><b>{label}</b><small>{key}</small></figcaption></figure>"
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def png(mel_FT: npt.NDArray[np.floating]) -> bytes:
    """An indexed-colour PNG of values from 0 to 1 [shape=(bands, columns)], low bands at the bottom."""
    index_FT = np.asarray(np.rint(255 * np.clip(np.nan_to_num(mel_FT[::-1]), 0, 1)), np.uint8)
    knots = np.linspace(0, 255, len(_GLOW))
    palette = np.stack([np.interp(np.arange(256), knots, channel) for channel in _GLOW.T], axis=1)
    height, width = index_FT.shape
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": np.asarray(np.rint(palette), np.uint8).tobytes(),
        b"IDAT": zlib.compress(np.pad(index_FT, ((0, 0), (1, 0))).tobytes()),  # each row begins with its filter: 0
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


def from_parts(key: str, label: str, parts: Mapping[str, bytes]) -> Sample:
    """Sample from the parts of a shard's sample."""
    mel_FT = np.load(io.BytesIO(parts[layout.MEL]), allow_pickle=False).astype(np.float32)
    return Sample(key=key, label=label, video=parts[layout.FRAMES], audio=parts[layout.AUDIO], mel_FT=mel_FT)
