"""How large ks-view's page is, how soon it paints, and how fast it filters, in Debian's chromium.

A manifest of made-up rows (400 classes, ids as random as YouTube's, measures that differ from clip to clip, messages of what
failed) is written, viewed without embedded clips, and opened from the disk. Times are the browser's own: the first paint with
something in it, the moment from which the page answers, and of each pressed bar how long it takes until the next frame is due.

    python benchmarks/view.py [--rows 100000] [--runs 3]
"""

import argparse
import platform
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from kinetics_sounds import classes, manifest
from kinetics_sounds.clip import Clip, Media, Outcome, Status
from kinetics_sounds.pipelines import view

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
GONE = (Status.PRIVATE, Status.REMOVED, Status.NO_AUDIO, Status.NETWORK)
PRESS = """async bar => {
  const began = performance.now();
  bar.click();
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - began;
}"""
"""Until the frame after the click has been laid out and painted."""
SEARCH = """async input => {
  const began = performance.now();
  const said = document.querySelector(".told").textContent;
  input.value = "drum";
  input.dispatchEvent(new Event("input"));
  while (document.querySelector(".told").textContent === said && performance.now() - began < 10000)
    await new Promise(done => setTimeout(done, 5));
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - began;
}"""
"""With the 0.12 s that the page waits for more letters."""


def main() -> None:
    """Make the rows, view them, open the page, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3, help="Times that the page is opened; the medians are reported.")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        labels = classes.read("k400")
        manifest.write(folder / "manifest.parquet", labels, rows(chosen.rows, labels.labels))
        began = time.process_time()
        assert view.main([name, "--embed", "0"]) == 0
        seconds, size = time.process_time() - began, (folder / "view.html").stat().st_size
        gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        browser = playwright.chromium.launch(executable_path=chosen.chromium, args=["--no-sandbox"])
        print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, chromium {browser.version}, {chosen.rows} rows\n")
        found = [opened(browser.new_page(), folder / "view.html") for _ in range(chosen.runs)]
        browser.close()
    print("| what | |\n|---|---|")
    print(f"| page | {size / 1e6:.1f} MB |\n| ks-view, of one core | {seconds:.1f} s, {gigabytes:.1f} GB |")
    for what in found[0]:
        each = [times[what] for times in found]
        print(f"| {what} | {statistics.median(each) / 1000:.2f} s |")


def rows(count: int, labels: tuple[str, ...]) -> Iterator[Outcome]:
    """Made-up outcomes in the manifest's order; one in three is not ok."""
    its = random.Random(0)
    made = sorted((_clip(its, labels) for _ in range(count)), key=lambda clip: (clip.split, clip.label, clip.key))
    for clip in made:
        if its.random() < 1 / 3:
            status = its.choice(GONE)
            detail = f"ERROR: [youtube] {clip.youtube_id}: {status}; yt-dlp 2026.7.4"
            yield Outcome(clip=clip, status=status, detail=detail, source="youtube")
        else:
            yield Outcome(clip=clip, status=Status.OK, source="local:/data/k400", media=_media(its, clip))


def _clip(its: random.Random, labels: tuple[str, ...]) -> Clip:
    start = its.randrange(300)
    name = "".join(its.choices(LETTERS, k=11))
    return Clip(name, start, start + 10, its.choice(labels), its.choices(("train", "val", "test"), (8, 1, 2))[0])


def _media(its: random.Random, clip: Clip) -> Media:
    return Media(
        path=f"clips/{clip.label}/{clip.key}.mp4",
        bytes=its.randrange(200_000, 3_000_000),
        sha256=f"{its.getrandbits(256):064x}",
        duration_seconds=10 - its.random() ** 8,
        fps=its.choice((25.0, 29.97, 30.0, its.uniform(10, 60))),
        width=340,
        height=its.choice((256, 240, 360, 720)),
        num_frames=300,
        audio_rate=44_100,
        audio_channels=2,
        audio_rms_db=its.gauss(-22, 8),
        audio_offset_seconds=its.gauss(0, 0.02),
        silent=its.random() < 0.01,
        still=its.random() < 0.01,
        other_streams="",
        rotation=0,
        decode_errors=int(its.expovariate(4)),
        audio_channel="mix",
    )


def opened(page: Page, path: Path) -> dict[str, float]:
    """Milliseconds of one opening: paint, answer, and of bars of several kinds."""
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    times = {
        "first paint": page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"),
        "answers after": page.evaluate("performance.getEntriesByName('ready')[0].startTime"),
    }
    for group in ("outcome", "class", "split", "duration", "loudness, RMS", "flags"):
        bar = page.get_by_role("group", name=group, exact=True).locator(".bar").nth(1)
        times[f"filter by {group}"] = bar.evaluate(PRESS)
    page.keyboard.press("Escape")
    times["search"] = page.get_by_label("Search").evaluate(SEARCH)
    return times


if __name__ == "__main__":
    main()
