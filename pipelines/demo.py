"""ks-demo: the whole pipeline on a small synthetic dataset; no network, no data.

The users' commands run as separate processes: yt-dlp downloads from a local server, ffmpeg trims, shards are packed, encoders are
pretrained and compared with untrained ones.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds import cores, files, progress
from kinetics_sounds.command import DONE, MISUSE, STOPPED, Stop, command, has_torch, refuse_without_torch, stoppable
from kinetics_sounds.errors import FaultError, KineticsSoundsError, SettingsError, StoppedError
from kinetics_sounds.media import synthesize
from kinetics_sounds.settings import parse

from . import executors
from .executors import local
from .synthetic import http_server, scenes

PACKAGE = __package__.rpartition(".")[0]
QUICK = (48, 8)
"""Clips and steps of `--quick`."""
QUICK_NOTE = (
    "With so few clips and steps, the scores show that every step works, not learning; "
    "the full ks-demo, about 4 minutes on two cores, shows learning."
)
CLASSES_FILE = "demo6.txt"
"""The class list, which is called by the file's name."""
COMMANDS = {
    "pipelines.build": "ks-build",
    "pipelines.shard": "ks-shard",
    "train": "ks-train",
    "train.evaluate": "ks-eval",
}
"""What a user would type for each module that is run."""
STAGES = {
    "videos": ("render the videos", 1.0, 0.03),
    "build": ("build: download, trim, check and measure the clips", 3.0, 0.09),
    "shards": ("pack shards: frames, mel-spectrograms and sound", 2.0, 0.024),
    "training": ("train without labels", 5.0, 0.06),
    "evaluation": ("evaluate untrained and trained encoders", 10.0, 0.012),
    "report": ("write the report", 4.0, 0.0),
}
"""Each stage in words, with the seconds that it takes on two idle cores, and those per clip: shares of the whole by CPU time."""
SECONDS_FILE = "seconds.json"
"""Seconds of each stage over all runs of a demo."""
SECONDS = 4
"""Length of a clip in seconds; its video is one second longer, so that there is something to trim."""
SECONDS_BETWEEN_LOOKS = 0.1
"""Polling interval while a command runs: a signal is passed on within `command.SAME_SECONDS`."""
PROBES = {
    "linear": ("top1", "top1_chance"),
    "knn": ("top1", "top1_chance"),
    "crossmodal": ("video_to_audio_r10", "r10_chance"),
}
"""Each probe with the metric shown in the report, and its chance level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """Run the whole pipeline on synthetic audio-visual data: videos, clips, shards, pretraining, evaluation, report.

    Takes about 4 minutes on two cores. Needs no network, no data and no GPU.

    Examples:
      ks-demo
      ks-demo --out /tmp/demo --seed 1
      ks-demo --quick

    exit code: 0 done; 2 usage error; 3 stopped, run again; 4 a bug, or a failing disk.
    """

    out: Path | None = None
    """Output folder; an interrupted demo resumes there. Default: demo, or demo-quick with --quick."""
    clips: int = 840
    """Total number of clips, divided equally among the six classes."""
    steps: int | None = None
    """Number of optimizer steps. Default: that of the recipe."""
    recipe: str = "avcl_tiny"
    """Training recipe: a shipped name or a YAML file."""
    seed: int = 0
    """Seed of the synthetic data and of the training."""
    quick: bool = False
    """48 clips and 8 steps, about a minute: shows that every step works, not learning."""
    workers: int = field(default_factory=cores.usable)
    """Number of worker processes for building and packing."""


@dataclass(frozen=True, slots=True)
class Video:
    """A synthetic video."""

    class_index: int
    number: int
    """Index of the video within its class."""
    seed: int

    @property
    def youtube_id(self) -> str:
        """ID of the video; does not reveal the class."""
        return f"demo-{self.seed:02d}-{(self.number * len(scenes.CLASSES) + self.class_index):06d}"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-demo`."""
    return command("ks-demo", lambda: demo(parse(DemoSettings, argv, prog="ks-demo").settings))


def demo(settings: DemoSettings) -> int:
    """Render the data, run all steps, print the table; returns the exit code."""
    if not has_torch():
        refuse_without_torch("ks-demo")
    if settings.clips < 48:
        raise SettingsError(f"--clips {settings.clips}: must be at least 48")
    for name, number in (("steps", settings.steps), ("workers", settings.workers)):
        if number is not None and number < 1:
            raise SettingsError(f"--{name} {number}: must be at least 1")
    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        return _demo(settings, stop)


def _demo(settings: DemoSettings, stop: Stop) -> int:
    out = settings.out or Path("demo-quick" if settings.quick else "demo")
    clips, steps = QUICK if settings.quick else (settings.clips, settings.steps)
    videos = [
        Video(class_index, number, settings.seed)
        for number in range(clips // len(scenes.CLASSES))
        for class_index in range(len(scenes.CLASSES))
    ]
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(videos)} synthetic videos in {len(scenes.CLASSES)} classes: {', '.join(scenes.CLASSES)}")
    clock = Clock(out / SECONDS_FILE, clips=len(videos))
    with clock.stage("videos"):
        _make(videos, out / "videos", settings, stop)
    _write_lists(videos, out)
    with clock.stage("build"), http_server.videos(out / "videos") as url:
        run_step(
            *("pipelines.build", "--classes", out / CLASSES_FILE, "--annotations", out / "annotations.csv"),
            *("--splits", "train,test", "--source", f"youtube:{url}/{{youtube_id}}.mp4"),
            *("--out", out / "build", "--workers", settings.workers),
            stop=stop,
        )
    with clock.stage("shards"):
        packing = ("--short_side", 36, "--workers", settings.workers)
        run_step("pipelines.shard", "--manifest", out / "build/manifest.parquet", *packing, stop=stop)
    with clock.stage("training"):
        extra = ["--steps", steps] if steps else []
        small = ["--batch", 16, "--log_every", 1] if settings.quick else []
        train = ("--config", settings.recipe, "--shards", out / "build/shards", "--out", out / "run")
        run_step("train", *train, "--seed", settings.seed, *extra, *small, stop=stop)
    with clock.stage("evaluation"):
        untrained, trained = (_scores(out, settings, stop, untrained=each) for each in (True, False))
    rows = [_row("guessing", untrained, chance=True), _row("untrained", untrained), _row("trained", trained)]
    page = out / "report.html"
    with clock.stage("report"):
        took = clock.told()
        _report(page, out, clips=len(videos), took=took, quick=settings.quick)
    files.write_bytes(out / "scores.json", (json.dumps(rows, indent=2) + "\n").encode())
    print(_table(rows))
    print("untrained encoders are not at chance: a random network already sees motion energy and spectra")
    if settings.quick:
        print(QUICK_NOTE)
    print(f"all steps before the report took {took}\nreport: {page}")
    return DONE


class Clock:
    """Announces each stage, and adds up its seconds over all runs of the demo, in a file of its folder."""

    def __init__(self, path: Path, *, clips: int) -> None:
        """Read what earlier runs took; a file that is not ours counts for nothing."""
        self._path, self._clips = path, clips
        self._earlier = _read_seconds(path)
        self._now = dict.fromkeys(STAGES, 0.0)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage, run it, and record its seconds, also if it is stopped."""
        what, seconds, seconds_per_clip = STAGES[name]
        place = list(STAGES).index(name) + 1
        about = progress.duration(seconds + seconds_per_clip * self._clips)
        print(f"\n{place}/{len(STAGES)} {what} (about {about} on two idle cores; less if done before)", flush=True)
        began = time.monotonic()
        try:
            yield
        finally:
            self._now[name] = time.monotonic() - began
            both = {each: self._earlier[each] + self._now[each] for each in STAGES}
            files.write_bytes(self._path, (json.dumps(both, indent=2) + "\n").encode())

    def told(self) -> str:
        """Minutes of this run and, if there were any, of the earlier ones."""
        now, earlier = sum(self._now.values()) / 60, sum(self._earlier.values()) / 60
        return f"{now + earlier:.1f} minutes" + (f", {now:.1f} of them in this run" if earlier else "")


def _read_seconds(path: Path) -> dict[str, float]:
    """Seconds of each stage in a file of `Clock`; zeros if there is none, or it is not one."""
    none = dict.fromkeys(STAGES, 0.0)
    if not path.is_file():
        return none
    try:
        found = files.read_json(path, most_bytes=10_000)
    except ValueError:
        return none
    if not isinstance(found, dict) or set(found) != set(none):
        return none
    return found if all(isinstance(each, float) and 0 <= each < 1e9 for each in found.values()) else none


def _make(videos: Sequence[Video], folder: Path, settings: DemoSettings, stop: Stop) -> None:
    """Render and encode the missing videos; raises StoppedError after a signal."""
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_parts(folder, "*.mp4")
    todo = [(video, folder) for video in videos if not (folder / f"{video.youtube_id}.mp4").exists()]
    with (
        contextlib.closing(local.Pool(render, workers=settings.workers)) as pool,
        progress.bar("videos", len(videos), done=len(videos) - len(todo)) as bar,
    ):
        for (video, _), failed in executors.in_order(pool, todo, timeout_seconds=60, stop=stop.__bool__):
            if failed is not None:
                raise KineticsSoundsError(f"{video.youtube_id}: cannot be rendered: {failed.detail}")
            bar.advance()
    _check_stop(stop)


def _check_stop(stop: Stop) -> None:
    """Raise StoppedError after a signal."""
    if stop:
        raise StoppedError(f"by {stop}; run ks-demo again to resume")


def render(task: tuple[Video, Path]) -> None:
    """Render one video as an mp4 file, in a worker."""
    video, folder = task
    its = scenes.SceneSettings(seconds=SECONDS + 1)
    seed = video.seed * 1_000_000 + video.number
    frames, waveform = scenes.render(video.class_index, seed, its)
    path = folder / f"{video.youtube_id}.mp4"
    part = files.part_of(path)
    synthesize.write_mp4(
        part, frames, waveform, fps=its.frames_per_second, sample_rate=its.sample_rate_hz, fast_audio=True
    )
    part.replace(path)


def _write_lists(videos: Sequence[Video], out: Path) -> None:
    """Write the class list and the annotations: spans of four seconds that start at 0 or 1; seven of ten videos for training."""
    files.write_bytes(out / CLASSES_FILE, "".join(f"{label}\n" for label in scenes.CLASSES).encode())
    rows = ["label,youtube_id,time_start,time_end,split"]
    for video in videos:
        start, split = video.number % 2, "test" if video.number % 10 in (2, 5, 8) else "train"
        rows.append(f"{scenes.CLASSES[video.class_index]},{video.youtube_id},{start},{start + SECONDS},{split}")
    files.write_bytes(out / "annotations.csv", ("\n".join(rows) + "\n").encode())


def run_step(module: str, *arguments: object, stop: Stop) -> None:
    """Run one of our commands as a process, as a user would; its output is shown.

    Raises StoppedError if it, or the demo, was stopped.
    """
    _check_stop(stop)
    argv = [sys.executable, "-m", f"{PACKAGE}.{module}", *map(str, arguments)]
    print("\n$", COMMANDS[module], *arguments, flush=True)
    with subprocess.Popen(argv) as process:
        told = False
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=SECONDS_BETWEEN_LOOKS)
            if (
                stop.by and not told
            ):  # one that has Ctrl-C from the terminal too takes both as one; it saves before it ends
                process.send_signal(stop.by)
                told = True
    code = process.returncode
    if code in (STOPPED, -signal.SIGINT, -signal.SIGTERM):
        raise StoppedError(f"{COMMANDS[module]} was stopped; run ks-demo again to resume")
    if code != DONE:
        raise (KineticsSoundsError if code == MISUSE else FaultError)(f"{COMMANDS[module]} ended with exit code {code}")
    _check_stop(stop)


def _scores(out: Path, settings: DemoSettings, stop: Stop, *, untrained: bool) -> dict[str, Mapping[str, float]]:
    """Scores of each probe; those of an earlier run of the demo, which may lie elsewhere now, are removed first."""
    paths = {probe: out / f"run/eval/{probe}{'_untrained' if untrained else ''}/results.json" for probe in PROBES}
    for path in paths.values():
        path.unlink(missing_ok=True)
    clips, more = 1 if settings.quick else 2, ["--untrained"] if untrained else []
    data = ("--run", out / "run", "--shards", out / "build/shards")  # given, as the demo may have been moved
    run_step("train.evaluate", *PROBES, *data, "--clips", clips, "--batch", 32, "--workers", 0, *more, stop=stop)
    return {probe: json.loads(path.read_bytes())["scores"] for probe, path in paths.items()}


def _row(name: str, scores: Mapping[str, Mapping[str, float]], *, chance: bool = False) -> dict[str, str | float]:
    """A row of the table."""
    row: dict[str, str | float] = {"encoders": name}
    for probe, (metric, guess) in PROBES.items():
        row[f"{probe} {metric}"] = float(scores[probe][guess if chance else metric])
    return row


def _table(rows: Sequence[Mapping[str, str | float]]) -> str:
    columns = list(rows[0])
    lines = ["  ".join(f"{column:>28}" for column in columns)]
    for row in rows:
        cells = (f"{cell:>28.1f}" if isinstance(cell := row[column], float) else f"{cell:>28}" for column in columns)
        lines.append("  ".join(cells))
    return "\n" + "\n".join(lines)


def _report(page: Path, out: Path, *, clips: int, took: str, quick: bool) -> None:
    """The page of ks-view with the build's clips and the run's curves and scores."""
    from .viewing import report, runs, sets  # they import what reads tables

    build = sets.read(out / "build")
    training = sum(row.split == "train" for row in build.rows)
    lines = [
        (
            f"{clips} synthetic videos, whose classes differ only in motion and in the temporal pattern of the sound; "
            f"{training} for training, the rest held out. All steps before this report took {took}."
        ),
        *([QUICK_NOTE] if quick else []),
    ]
    written = report.write(
        page,
        title="kinetics-sounds demo",
        found=[build],
        ran=[runs.read(out / "run")],
        embed=2 * len(scenes.CLASSES),
        seed=0,
        timeout_seconds=60,
        lines=lines,
    )
    report.tell(written)


if __name__ == "__main__":
    sys.exit(main())
