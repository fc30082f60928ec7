"""Hours, disk and clips to expect of a build of K32: what `ks-build --dry_run` computes, for the official number of clips.

    python benchmarks/forecasts.py [--workers 8]

Nothing is measured here: the rates are the constants of `pipelines/fetching/summary.py` and of the sources, which say where they
are from. Writes `benchmarks/forecasts.md`.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from kinetics_sounds.pipelines.fetching import summary
from kinetics_sounds.sources import cvdf, youtube

K32 = {"train": 23_383, "val": 1_594, "test": 3_200}
"""Annotated clips of the 32 classes; train and test about, val counted in the official list."""
SHARD_BYTES = 680_000
"""Bytes of a clip in a shard: video, mel-spectrogram and FLAC (`benchmarks/stream.md`: medians 258, 131 and 265 kB)."""


def main() -> None:
    """Compute the table and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    workers = parser.parse_args().workers
    count = sum(K32.values())
    cutting = count * summary.CLIP_SECONDS / workers / 3600
    mirrored = sum(number * cvdf.Source.share[split] for split, number in K32.items())
    streaming = 301 * cvdf.Source.part_bytes / summary.BYTES_PER_SECOND / 3600
    alive = count * youtube.STILL_THERE
    rows = [
        ("local", cutting, count * summary.CLIP_BYTES, "all that your copy has"),
        ("cvdf", max(streaming, cutting), mirrored * summary.CLIP_BYTES, f"{mirrored / count:.1%}"),
        ("youtube", count / youtube.VIDEOS_PER_HOUR, alive * summary.CLIP_BYTES, f"below {youtube.STILL_THERE:.0%}"),
    ]
    lines = [
        "# What a build of K32 takes",
        "",
        f"`python benchmarks/forecasts.py`, {datetime.now(UTC):%Y-%m-%d}: forecasts, computed as `ks-build --dry_run` does, for",
        f"{count:,} annotated clips and {workers} workers; none of these builds was run at full size.",
        "",
        "| source | hours | GB of clips | clips |",
        "|---|---|---|---|",
        *(f"| {name} | {hours:.1f} | {size / 1e9:.0f} | {clips} |" for name, hours, size, clips in rows),
        "",
        f"A local copy's trimmed files are linked and take no space. Shards take {count * SHARD_BYTES / 1e9:.0f} GB more.",
        f"The mirror is streamed whole at {summary.BYTES_PER_SECOND / 1e6:.0f} MB/s: its archives are not sorted by class.",
        f"YouTube is asked for {youtube.VIDEOS_PER_HOUR} videos an hour and address;",
        f"{youtube.STILL_THERE:.0%} of the videos were there in 2020, fewer are now.",
        "",
    ]
    page = Path(__file__).with_suffix(".md")
    page.write_text("\n".join(lines))
    print(page.read_text())


if __name__ == "__main__":
    main()
