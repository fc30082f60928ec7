"""How far apart are two encodings of one clip, and two clips: what the bounds of `kinetics_sounds.media.likeness` rest on.

Each real video is cut to at most ten seconds and encoded in each of `ENCODINGS`; all pairs of these should be alike. A second
span of it, beginning a little later, and all other videos should not be; nor should a clip whose sound alone is shifted or
another's. Each of such pairs is of two different encodings. Distances are printed as shares of pairs, verdicts with counts and
the 95 % bound of what they say of other videos (exact, Clopper and Pearson: of none in n it is 3/n). Also: what of the pairs
`pairs` finds among 100,000 more, how long that takes, and the CPU time of `describe`.

    python benchmarks/likeness.py --videos FOLDER [--most 200] [--same NAME=NAME ...] [--descriptions FILE]
"""

import argparse
import dataclasses
import itertools
import json
import os
import platform
import resource
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from shard_speed import cpu_name

from kinetics_sounds import progress
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import ffmpeg, likeness, probe
from kinetics_sounds.media.likeness import Likeness, Part, Verdict
from kinetics_sounds.media.perceptual_hash import MOMENTS, PATTERNS

SECONDS = 10
SHIFTS = (0.1, 0.5, 1.0, 2.0, 5.0)
SHORTEST_SECONDS = 3.0
LEAST_LINES = 100
MANY = 100_000
X264 = "-c:v libx264 -preset superfast -pix_fmt yuv420p"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 0 -pix_fmt yuv420p"
MPEG4 = "-c:v mpeg4 -pix_fmt yuv420p -s 320x240"
ENCODINGS = {
    "H.264 crf 23, 256 lines; AAC 128k stereo; mp4": (f"{X264} -crf 23", 256, "-c:a aac -b:a 128k -ac 2", "mp4"),
    "H.264 crf 28, 240 lines, 15 fps; AAC 64k mono; mp4": (
        f"{X264} -crf 28 -r 15",
        240,
        "-c:a aac -b:a 64k -ac 1",
        "mp4",
    ),
    "H.264 crf 35, 128 lines; AAC 48k mono; mkv": (f"{X264} -crf 35", 128, "-c:a aac -b:a 48k -ac 1", "mkv"),
    "H.264 crf 35, 360 lines, 12 fps; MP3 48k mono; mkv": (
        f"{X264} -crf 35 -r 12",
        360,
        "-c:a libmp3lame -b:a 48k -ac 1",
        "mkv",
    ),
    "VP9 crf 40, 360 lines; Opus 48k stereo; webm": (f"{VP9} -crf 40", 360, "-c:a libopus -b:a 48k -ac 2", "webm"),
    "MPEG-4 q 8, 320 x 240, 25 fps; MP3 128k 22 kHz stereo; avi": (
        f"{MPEG4} -q:v 8 -r 25",
        0,
        "-c:a libmp3lame -b:a 128k -ac 2 -ar 22050",
        "avi",
    ),
    "H.264 crf 18, 720 lines, 30 fps; AAC 192k 22 kHz; mov": (
        f"{X264} -crf 18 -r 30",
        720,
        "-c:a aac -b:a 192k -ar 22050",
        "mov",
    ),
    "H.264 crf 24, 256 lines, 10 fps; AAC 64k 16 kHz mono; mp4": (
        f"{X264} -crf 24 -r 10",
        256,
        "-c:a aac -b:a 64k -ac 1 -ar 16000",
        "mp4",
    ),
}
"""Picture, lines of the shorter side (0: as the picture says), sound, container."""
PARTS: tuple[Part, ...] = ("picture", "motion", "sound")


@dataclass
class Video:
    """What was described of one."""

    name: str
    encoded: list[Likeness] = field(default_factory=list)
    """Of its beginning, by encoding."""
    spans: dict[float, Likeness] = field(default_factory=dict)
    """By where they begin, in seconds: all of one length; the first of another encoding than the others."""


Pair = tuple[str, Likeness, Likeness]
"""What it is of, and the two."""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="Folder of real videos, at any depth.")
    parser.add_argument("--most", type=int, default=200, help="Videos at most.")
    parser.add_argument("--same", nargs="*", default=[], help="NAME=NAME: two files of one recording.")
    parser.add_argument("--descriptions", type=Path, help="JSON file: read where it is there, else written.")
    chosen = parser.parse_args()
    if chosen.descriptions and chosen.descriptions.exists():
        videos = [from_json(each) for each in json.loads(chosen.descriptions.read_text())]
    else:
        videos = described(chosen.videos, chosen.most)
    if chosen.descriptions:
        chosen.descriptions.write_text(json.dumps([dataclasses.asdict(video) for video in videos]))
    machine = f"{cpu_name()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, ffmpeg {ffmpeg.version()}, numpy {np.__version__}\n")
    sounding = sum(any(each.loudness_db > -60 for each in video.encoded) for video in videos)
    print(f"{len(videos)} videos, {sounding} with sound that can be heard, {len(ENCODINGS)} encodings of each:\n")
    print("".join(f"- {name}\n" for name in ENCODINGS))
    same = {frozenset(each.split("=")) for each in chosen.same}
    sets = {"encoded again": encoded_again(videos)}
    sets |= {f"begins {shift:g} s later": shifted(videos, shift) for shift in SHIFTS}
    sets |= {f"sound alone {shift:g} s later": sound_shifted(videos, shift) for shift in SHIFTS}
    sets |= {"another video": other_videos(videos, same), "sound of another video": other_sound(videos, same)}
    for part in PARTS:
        distances(part, sets)
    verdicts(sets)
    search(videos)
    cost()


def described(folder: Path, most: int) -> list[Video]:
    """All videos of the folder that are long enough, in order."""
    videos: list[Video] = []
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with progress.bar("encoding", len(paths)) as bar, tempfile.TemporaryDirectory() as name:
        for path in paths:
            bar.advance()
            if len(videos) < most and (found := usable(path)):
                videos.append(described_video(path, found, Path(name)))
    return videos


def from_json(told: dict[str, Any]) -> Video:
    """A video as it was written."""
    spans = {float(begin): Likeness(**each) for begin, each in told["spans"].items()}
    return Video(told["name"], [Likeness(**each) for each in told["encoded"]], spans)


def usable(path: Path) -> probe.Probe | None:
    """What a video holds that is long enough; None for others."""
    try:
        found = probe.probe(path)
    except MediaError:
        return None
    large = found.video and min(found.video.width, found.video.height) >= LEAST_LINES
    return found if large and (found.seconds or 0) >= SHORTEST_SECONDS else None


def described_video(path: Path, found: probe.Probe, scratch: Path) -> Video:
    """Encode a video in all ways, and its later spans."""
    seconds = found.seconds or 0
    video = Video(f"{path.parent.name}/{path.name}")
    names = list(ENCODINGS)
    video.encoded = encoded(path, 0, min(SECONDS, seconds), names, found, scratch)
    length = min(SECONDS, seconds - max(SHIFTS))
    if length >= SHORTEST_SECONDS:
        video.spans = {0: encoded(path, 0, length, names[:1], found, scratch)[0]}
        video.spans |= {shift: encoded(path, shift, length, names[1:2], found, scratch)[0] for shift in SHIFTS}
    return video


def encoded(
    path: Path, start: float, seconds: float, names: Sequence[str], found: probe.Probe, scratch: Path
) -> list[Likeness]:
    """A span of a video in each of these encodings, described."""
    argv = [
        ffmpeg.executable(),
        "-nostdin",
        "-y",
        "-v",
        "error",
        "-ss",
        str(start),
        "-t",
        str(seconds),
        "-i",
        str(path),
    ]
    outs = [scratch / f"{number}.{ENCODINGS[name][3]}" for number, name in enumerate(names)]
    for name, out in zip(names, outs, strict=True):
        picture, lines, sound, _ = ENCODINGS[name]
        scale = f"scale='if(gte(iw,ih),-2,{lines})':'if(gte(iw,ih),{lines},-2)'"
        argv += ["-map", "0:v:0", *picture.split(), *(["-vf", scale] if lines else [])]
        argv += ["-map", "0:a:0", *sound.split()] if found.audio else []
        argv += ["-map_metadata", "-1", str(out)]
    subprocess.run(argv, check=True, timeout=600)
    return [likeness.describe(out, timeout_seconds=60) for out in outs]


def encoded_again(videos: Iterable[Video]) -> list[Pair]:
    """All pairs of encodings of one clip."""
    return [(video.name, a, b) for video in videos for a, b in itertools.combinations(video.encoded, 2)]


def shifted(videos: Iterable[Video], shift: float) -> list[Pair]:
    """A clip and one that begins later in the same video."""
    return [(video.name, video.spans[0], video.spans[shift]) for video in videos if video.spans]


def sound_shifted(videos: Iterable[Video], shift: float) -> list[Pair]:
    """A clip whose sound changes, and the same with the sound of one that begins later, of another encoding."""
    return [
        (video.name, video.spans[0], dataclasses.replace(video.spans[0], sound_hash=video.spans[shift].sound_hash))
        for video in videos
        if video.spans and bits(video.spans[0]) >= likeness.LEAST_EVIDENCE
    ]


def other_videos(videos: Sequence[Video], same: set[frozenset[str]]) -> list[Pair]:
    """Each two videos, the encodings taken in turn; their lengths and loudness are made equal, so that hashes alone tell."""
    equal = {"duration_seconds": 10.0, "loudness_db": -20.0}
    found = []
    for (i, a), (j, b) in itertools.combinations(enumerate(videos), 2):
        if frozenset((a.name, b.name)) not in same:
            ours, theirs = a.encoded[i % len(ENCODINGS)], b.encoded[(j + i // len(ENCODINGS)) % len(ENCODINGS)]
            found.append(
                (f"{a.name} {b.name}", dataclasses.replace(ours, **equal), dataclasses.replace(theirs, **equal))  # type: ignore[arg-type]
            )
    return found


def other_sound(videos: Sequence[Video], same: set[frozenset[str]]) -> list[Pair]:
    """Each video that can be heard, and the same with the sound of each other one."""
    heard = [video for video in videos if bits(video.encoded[0]) >= likeness.LEAST_EVIDENCE]
    return [
        (f"{a.name} {b.name}", a.encoded[0], dataclasses.replace(a.encoded[2], sound_hash=b.encoded[1].sound_hash))
        for a, b in itertools.permutations(heard, 2)
        if frozenset((a.name, b.name)) not in same
    ]


def bits(each: Likeness) -> int:
    """That are 1 in a sound hash."""
    return (likeness.parse(each.sound_hash, "s") or 0).bit_count()


def distances(part: Part, sets: dict[str, list[Pair]]) -> None:
    """Print how many of each hundred pairs that can be compared lie in each tenth of the distance, and the extremes."""
    bound = getattr(likeness, f"MOST_{part.upper()}")
    print(f"## Distance of {part} (bound {bound:g})\n")
    print(f"| | pairs | least | median | most | {' | '.join(f'{low / 10:g}-' for low in range(10))} |")
    print(f"|---|{'---|' * 14}")
    for name, pairs in sets.items():
        if part in ("picture", "motion") and name.startswith("sound"):
            continue
        compared = [likeness.compare(a, b).distances.get(part) for _, a, b in pairs]
        there = np.array([each for each in compared if each is not None])
        if there.size:
            shares = 100 * np.histogram(np.minimum(there, 0.999), bins=10, range=(0, 1))[0] / there.size
            cells = " | ".join(f"{share:.1f}" if share else "" for share in shares)
            print(
                f"| {name} | {there.size} | {there.min():.2f} | {np.median(there):.2f} | {there.max():.2f} | {cells} |"
            )
    print()


def verdicts(sets: dict[str, list[Pair]]) -> None:
    """Print what is said of each kind of pair, and what that bounds; then which pairs were told wrongly."""
    columns = "pairs | alike | different | unknown | wrong pairs | at most, 95 % | wrong videos | at most, 95 %"
    print(f"## Verdicts\n\n| | {columns} |\n|---|{'---|' * 8}")
    wrong: list[str] = []
    for name, pairs in sets.items():
        said = [(what, likeness.compare(a, b)) for what, a, b in pairs]
        count = Counter(each.verdict for _, each in said)
        told = f"| {name} | {len(pairs)} | {count['alike']} | {count['different']} | {count['unknown']} |"
        if name.endswith(" 0.1 s later"):  # either is right
            print(f"{told}{' |' * 4}")
            continue
        bad: Verdict = "different" if name == "encoded again" else "alike"
        of_videos = {what for what, each in said if each.verdict == bad}
        videos = " | " if "another" in name else rate(len(of_videos), len({what for what, _ in said}))
        print(f"{told} {rate(count[bad], len(pairs))} | {videos} |")
        broken = Counter((what, " and ".join(each.broken)) for what, each in said if each.verdict == bad)
        wrong += [f"- {name}: {what} ({number}{', by ' + by if by else ''})" for (what, by), number in broken.items()]
    print("\nWrong (shifts of 0.1 s left out, where either is right):\n\n" + "\n".join(wrong or ["- none"]) + "\n")


def rate(wrong: int, count: int) -> str:
    """So many of so many, and what that bounds."""
    most = float(scipy.stats.beta.ppf(0.95, wrong + 1, max(count - wrong, 1e-9)))
    return f"{wrong} of {count} | {100 * most:.2f} %"


def search(videos: Sequence[Video]) -> None:
    """Print what `pairs` finds of the pairs that are alike, amid many others that look like them."""
    ours = [each for video in videos for each in video.encoded]
    wanted = {(i, j) for i, j in itertools.combinations(range(len(ours)), 2) if likeness.alike(ours[i], ours[j])}
    crowd = [*ours, *distractors(ours, MANY)]
    began = time.process_time()
    found = set(likeness.pairs(crowd))
    seconds = time.process_time() - began
    direct = len(wanted & found)
    together = linked(found)
    indirect = sum(together.get(i, i) == together.get(j, -1) for i, j in wanted)
    print("## Search\n")
    print(
        f"{len(ours)} descriptions with {len(wanted)} alike pairs, amid {MANY} of other scenes whose bits are 1 as often:"
    )
    print(f"`pairs` named {direct} ({100 * direct / max(len(wanted), 1):.1f} %), and linked {indirect} ", end="")
    print(f"({100 * indirect / max(len(wanted), 1):.1f} %) through others; {seconds:.1f} s of CPU.\n")
    black = [
        Likeness(
            duration_seconds=10,
            frames=300,
            loudness_db=-200,
            picture_hash=f"p1:{'0' * 136}",
            sound_hash=f"s1:{'0' * 96}",
        )
    ]
    for name, each in (("black and silent", black[0]), ("equal", ours[0])):
        began = time.process_time()
        number = sum(1 for _ in likeness.pairs([each] * MANY))
        print(f"{MANY} clips that are {name}: {number} pairs, {time.process_time() - began:.1f} s of CPU.\n")


def distractors(ours: Sequence[Likeness], count: int) -> list[Likeness]:
    """Other descriptions, with each bit as often 1 as in the real ones: a scene that hardly changes, and a sound."""
    rng = np.random.default_rng(0)
    picture, sound = (
        np.unpackbits(np.array([list(bytes.fromhex(getattr(each, name)[3:])) for each in ours], np.uint8), axis=1)
        for name in ("picture_hash", "sound_hash")
    )
    still = MOMENTS * PATTERNS
    often = picture[:, :still].reshape(-1, PATTERNS).mean(axis=0)
    made = []
    for number in range(count):
        scene = np.tile(rng.random(PATTERNS) < often, MOMENTS) ^ (rng.random(still) < 0.05)
        motion = rng.random(picture.shape[1] - still) < picture[:, still:].mean(axis=0)
        heard = rng.random(sound.shape[1]) < sound.mean(axis=0)
        hashes = {
            "picture_hash": likeness.write(np.concatenate([scene, motion]), "p"),
            "sound_hash": likeness.write(heard, "s"),
        }
        made.append(Likeness(duration_seconds=10, frames=number, loudness_db=-20, **hashes))
    return made


def linked(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The group of each clip that is in a pair."""
    root: dict[int, int] = {}

    def top(place: int) -> int:
        while root.setdefault(place, place) != place:
            place = root[place]
        return place

    for i, j in pairs:
        root[top(j)] = top(i)
    return {place: top(place) for place in list(root)}


def cost() -> None:
    """Print the CPU time of `describe` for ten seconds of 340 x 256 at 30 frames a second."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "clip.mp4"
        noise = ["-f", "lavfi", "-i", "testsrc2=size=340x256:rate=30:duration=10,noise=alls=12:allf=t"]
        tone = ["-f", "lavfi", "-i", "anoisesrc=duration=10:amplitude=0.1", "-shortest"]
        kinds = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-pix_fmt", "yuv420p", "-c:a", "aac"]
        subprocess.run([ffmpeg.executable(), "-nostdin", "-v", "error", *noise, *tone, *kinds, str(path)], check=True)
        times = []
        for _ in range(6):
            before = used()
            likeness.describe(path, timeout_seconds=60)
            times.append(used() - before)
        size = path.stat().st_size
    print(
        f"## Cost\n\n`describe` of 10 s of 340 x 256 at 30 frames a second ({size / 1e6:.1f} MB, H.264 and AAC): ",
        end="",
    )
    print(f"{np.median(times[1:]):.2f} s of CPU (median of five; {min(times):.2f} to {max(times[1:]):.2f}).")


def used() -> float:
    """CPU seconds of this process and those that it ran."""
    return sum(
        each.ru_utime + each.ru_stime
        for each in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    main()
