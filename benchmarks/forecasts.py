"""Hours, disk and clips to expect of builds of K32 and K100: what `ks-build --dry_run` computes, for the official lists.

    python benchmarks/forecasts.py

Nothing is measured here: the rates are the constants of `pipelines/fetching/forecast.py` and of the sources.
Writes `benchmarks/forecasts.md`.
"""

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from kinetics_sounds.pipelines.fetching import forecast
from kinetics_sounds.sources import cvdf, youtube

K32 = {"train": 23_383, "val": 1_594, "test": 3_200}
"""Annotated clips of the 32 classes; train and test about, val counted in the official list."""
K100 = {"train": 61_700, "val": 4_980, "test": 9_980}
"""Of the reconstructed list: val counted in the official list, of which it is a quarter; train and test as many."""
SHARD_BYTES = 660_000
"""Bytes of a clip in a shard: video, mel-spectrogram, FLAC and JSON (`benchmarks/stream.md`: medians 258, 131, 265 and 5 kB)."""
PACK_SECONDS = 0.72
"""Seconds of one core that ks-shard takes for a clip (`benchmarks/build.md`: 43.0 for 60 clips)."""
BUILDS = {"K32": (K32, 8), "K100": (K100, 64)}
"""Clips by split, and workers."""


def main() -> None:
    """Compute the tables and write the page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    lines = [
        "# What builds of K32 and K100 take",
        "",
        f"`python benchmarks/forecasts.py`, {datetime.now(UTC):%Y-%m-%d}: forecasts, computed as `ks-build --dry_run` does;",
        "none of these builds was run at full size.",
        "",
        *(line for name, (clips, workers) in BUILDS.items() for line in section(name, clips, workers)),
        "A local copy's trimmed files are linked and take no space.",
        f"The mirror is streamed whole at {forecast.BYTES_PER_SECOND / 1e6:.0f} MB/s: its archives are not sorted by class.",
        f"YouTube is asked for {youtube.VIDEOS_PER_HOUR} videos an hour and address;",
        f"{youtube.STILL_THERE:.0%} of the videos were there in 2020, fewer are now.",
        "",
    ]
    page = Path(__file__).with_suffix(".md")
    page.write_text("\n".join(lines))
    print(page.read_text())


def section(name: str, clips: Mapping[str, int], workers: int) -> list[str]:
    """Lines of the page on one class list: from each source, then shards."""
    count = sum(clips.values())
    cutting = count * forecast.CLIP_SECONDS / workers / 3600
    mirrored = sum(number * cvdf.Source.share[split] for split, number in clips.items())
    streaming = 301 * cvdf.Source.part_bytes / forecast.BYTES_PER_SECOND / 3600
    alive = count * youtube.STILL_THERE
    rows = [
        ("local", cutting, count * forecast.CLIP_BYTES, "all that your copy has"),
        ("cvdf", max(streaming, cutting), mirrored * forecast.CLIP_BYTES, f"{mirrored / count:.1%}"),
        ("youtube", count / youtube.VIDEOS_PER_HOUR, alive * forecast.CLIP_BYTES, f"below {youtube.STILL_THERE:.0%}"),
    ]
    packing = count * PACK_SECONDS / workers / 3600
    return [
        f"## {name}: {count:,} annotated clips, {workers} workers",
        "",
        "| source | hours | GB of clips | clips |",
        "|---|---|---|---|",
        *(f"| {source} | {hours:.1f} | {size / 1e9:.0f} | {share} |" for source, hours, size, share in rows),
        "",
        f"Shards take {packing:.1f} hours and {count * SHARD_BYTES / 1e9:.0f} GB more.",
        "",
    ]


if __name__ == "__main__":
    main()
