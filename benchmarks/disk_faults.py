"""Fail each open, write, sync, rename, unlink and mkdir of ks-build, ks-shard, ks-train and ks-eval once, and run them again.

    apt-get install gcc
    python benchmarks/disk_faults.py --out disk_faults.jsonl                     # every site: hours
    python benchmarks/disk_faults.py --out disk_faults.jsonl --every 5 --commands ks-train

A library that is loaded before libc (disk_faults.c) counts the calls on paths below the folder of a trial, in all processes of
a command, and fails the one that is asked for with an error drawn by the seed. Each command runs from nothing ("new") and from
what a stopped run left ("again"). After the fault: the exit code claims no more than there is, the message names a path, and
every file is an old or a new one, whole; after one more run of the same command, without a fault: exit code 0, and every file
as an undisturbed run makes it, with nothing left over. What is otherwise is printed as WRONG, and the exit code is 1.

Results go to --out as they come, and sites that it holds are not tried again. What calls libc by its dynamic linker is seen:
Python, SQLite, PyAV, pyarrow, safetensors, libsndfile, and the ffmpeg of imageio-ffmpeg (one that is linked statically is not).
What libc does within itself is not: the flush of a C stream, and a mapped file's pages. Commands are forked from a process that
has imported all, and their workers from them (--spawn: they are started as they always are, seconds slower).
"""

import argparse
import atexit
import contextlib
import ctypes
import dataclasses
import errno
import gc
import hashlib
import io
import itertools
import json
import mmap
import os
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

KINDS = ("open", "write", "fsync", "rename", "unlink", "mkdir", "link", "truncate", "lock", "read")
"""Of calls, as disk_faults.c numbers them."""
ERRORS = ("EIO", "ENOSPC", "EACCES", "ESTALE", "EMFILE")
"""What a call fails with."""
NEVER = {"EMFILE": {*KINDS} - {"open"}, "ENOSPC": {"read"}}
"""Of an error the kinds of calls that cannot give it."""
LIMIT_SECONDS = 90.0
"""That a command may take."""
MOST_SITES = 8192
STEPS, SAVE_EVERY = 6, 2
"""Of training; two checkpoints are kept, so that the first is dropped."""

# --- The process that is forked for each command, in which all is imported ---------------------------------------------------


def serve(*, spawn: bool) -> "Order | None":
    """Fork a process for each order on standard input; in that process, return the order. None at the end of the input."""
    warm()
    if not spawn:
        fork_workers()
    print("ready", flush=True)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        child = os.fork()
        if not child:
            return order
        print(json.dumps({"process": child, "code": ended(child)}), flush=True)
    return None


class Order(NamedTuple):
    """A command to be run."""

    words: list[str]
    log: str
    passing: str
    """The folder for temporary files."""


def ended(child: int) -> int:
    """The exit code of a process, whose session is killed when its time is over; then -9, and minus the signal of a crash."""
    until = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def warm() -> None:
    """Import what the commands import, early or late."""
    import numpy as np
    import torch._dynamo  # noqa: F401
    import webdataset  # noqa: F401
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401

    from kinetics_sounds.media import ffmpeg, mel
    from kinetics_sounds.train.data.views import clip_and_mel  # noqa: F401
    from kinetics_sounds.train.methods import avcl  # noqa: F401
    from kinetics_sounds.train.probes import (
        knn,  # noqa: F401
    )

    mel.mel_image(np.zeros(24_000, np.float32), mel.Mel())
    ffmpeg.version()
    with contextlib.redirect_stderr(io.StringIO()):  # so that parsers of options are made
        for name, command in mains().items():
            command(["knn", "crossmodal", "--there_is_no_such_option"][0 if name == "ks-eval" else 2 :])
    gc.freeze()


def mains() -> dict[str, Callable[[Sequence[str]], int]]:
    """What the installed commands call."""
    from kinetics_sounds.pipelines import build, shard
    from kinetics_sounds.train import evaluate, pretrain

    return {"ks-build": build.main, "ks-shard": shard.main, "ks-train": pretrain.main, "ks-eval": evaluate.main}


def fork_workers() -> None:
    """Workers of the commands are forked from now on, where they were spawned."""
    import multiprocessing

    from kinetics_sounds.pipelines import process_pool
    from kinetics_sounds.train.data import loader

    real = multiprocessing.get_context

    class Forked:
        """The module, whose contexts fork."""

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
            return getattr(multiprocessing, name)

        def get_context(self, _method: str) -> Any:  # noqa: ANN401 - the types of the module say less
            return real("fork")

    process_pool.multiprocessing = Forked()
    loader.start_method = lambda *_: real("fork")


def leave(order: Order) -> NoReturn:
    """Carry out an order and end the process as Python does, but for giving back its memory, which takes long."""
    code: object = 1
    try:
        code = carry_out(order)
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 - as Python would
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


def carry_out(order: Order) -> int:
    """In the forked process: what the installed command does."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, descriptor in enumerate((null, log, log)):
        os.dup2(descriptor, number)
    os.environ["TMPDIR"] = tempfile.tempdir = order.passing
    command, *argv = order.words
    sys.argv = order.words
    return mains()[command](argv)


# --- The control of the library ----------------------------------------------------------------------------------------------


class Site(ctypes.Structure):
    """A call that was counted; see disk_faults.c."""

    _fields_ = [("kind", ctypes.c_int), ("process", ctypes.c_int), ("path", ctypes.c_char * 504)]


class Control(ctypes.Structure):
    """What the library is to do, and what it saw; see disk_faults.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("armed", "kinds", "target", "error", "count", "fired")),
        ("prefix", ctypes.c_char * 4096),
        ("sites", Site * MOST_SITES),
    ]


def compiled(folder: Path) -> Path:
    """The library, made by the machine's own compiler."""
    if not shutil.which("gcc"):
        raise SystemExit("there is no gcc; apt-get install gcc")
    source, made = Path(__file__).with_suffix(".c"), folder / "disk_faults.so"
    options = ("-shared", "-fPIC", "-O1", "-Wall", "-Wno-nonnull-compare", "-D_FORTIFY_SOURCE=0")
    subprocess.run(["gcc", *options, "-o", made, source, "-ldl"], check=True)
    return made


# --- What is run, and from what ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """A command, and what is there when it begins."""

    name: str
    """Such as `ks-train again`."""
    words: tuple[str, ...]
    start: Path
    """A folder that becomes that of the trial."""
    expected: dict[str, str]
    """What an undisturbed run leaves."""
    sites: tuple[tuple[str, str], ...]
    """Kind and path of each call that it made."""


class Ran(NamedTuple):
    """A command that ended."""

    code: int
    said: str
    sites: tuple[tuple[str, str], ...]
    fired: bool
    processes: frozenset[int]


class World:
    """A folder with small videos, in which one command runs at a time."""

    def __init__(self, folder: Path, *, spawn: bool, reads: bool) -> None:
        """Start the process that is forked for each command."""
        self.folder, self.trial, self.reads = folder, folder / "trial", reads
        (folder / "control").write_bytes(bytes(ctypes.sizeof(Control)))
        with (folder / "control").open("r+b") as file:
            self.control = Control.from_buffer(mmap.mmap(file.fileno(), 0))
        self.control.prefix = os.fsencode(self.trial)
        environment = os.environ | {
            "LD_PRELOAD": str(compiled(folder)),
            "DISK_FAULTS": str(folder / "control"),
            "OMP_NUM_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),  # torch's own, which stays
        }
        words = [sys.executable, __file__, "--serve", *(["--spawn"] if spawn else [])]
        self.server = subprocess.Popen(
            words, env=environment, cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._answer()

    def _answer(self) -> str:
        if self.server.stdout is None or not (line := self.server.stdout.readline()):
            raise SystemExit("the process that commands are forked from has ended")
        return line

    def close(self) -> None:
        """End it."""
        self.server.kill()
        self.server.wait()

    def run(self, words: Sequence[str], *, fail: int = 0, error: str = "EIO") -> Ran:
        """Run a command; its call number `fail` fails, counted from 1."""
        control, log = self.control, self.folder / "log"
        control.kinds = (1 << len(KINDS)) - 1 - (0 if self.reads else 1 << KINDS.index("read"))
        control.target, control.error, control.count, control.fired = fail, getattr(errno, error), 0, 0
        passing = self.trial / "tmp"
        passing.mkdir(exist_ok=True)
        control.armed = 1
        if self.server.stdin is None:
            raise TypeError("the process has no input")
        print(json.dumps(Order(list(words), str(log), str(passing))._asdict()), file=self.server.stdin, flush=True)
        answer = json.loads(self._answer())
        control.armed = 0
        seen = [control.sites[number] for number in range(min(control.count, MOST_SITES))]
        sites = tuple((KINDS[site.kind], os.fsdecode(site.path)) for site in seen)
        processes = frozenset({answer["process"], *(site.process for site in seen)})
        return Ran(answer["code"], log.read_text(errors="replace"), sites, bool(control.fired), processes)

    def begin(self, start: Path) -> None:
        """Have the trial's folder be as it is when the command begins."""
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(start, self.trial, symlinks=True)

    def keep(self, name: str) -> Path:
        """A copy of the trial's folder, to begin with."""
        kept = self.folder / name
        shutil.copytree(self.trial, kept, symlinks=True)
        return kept


def commands(trial: Path) -> dict[str, tuple[str, ...]]:
    """The four commands, each on what the one before it made."""
    build, run = trial / "build", trial / "run"
    return {
        "ks-build": (
            *("ks-build", f"--classes={trial / 'classes.txt'}", "--annotations", str(trial / "list.csv")),
            *("--splits=train,test", f"--source=local:{trial / 'videos'}", f"--out={build}", "--workers=1"),
            *("--retry_wait=0.05", "--patience=5", "--timeout=60"),
        ),
        "ks-shard": (
            *("ks-shard", f"--manifest={build / 'manifest.parquet'}", f"--out={trial / 'shards'}", "--workers=1"),
            *("--short_side=36", "--shard_bytes=250000", "--timeout=60"),
        ),
        "ks-train": (
            *("ks-train", "--config=avcl_tiny", f"--shards={trial / 'shards'}", f"--out={run}", "--workers=1"),
            *("--device=cpu", "--batch=2", f"--steps={STEPS}", f"--save_every={SAVE_EVERY}", "--log_every=1"),
            *("--r3d.width=2", "--clip_and_mel.frames=8"),
        ),
        "ks-eval": (
            *("ks-eval", "knn", "crossmodal", f"--run={run}", f"--shards={trial / 'shards'}", "--workers=1"),
            *("--device=cpu", "--clips=1", "--batch=2"),
        ),
    }


def write_videos(folder: Path) -> None:
    """Clips of two classes: three to be trained on and two to be judged on, of each one that is linked; the others are cut."""
    import numpy as np

    from kinetics_sounds.media import synthesize

    rows = ["label,youtube_id,time_start,time_end,split"]
    (folder / "videos").mkdir(parents=True)
    for number, name in enumerate(("whole-0", "whole-1", "linked-0_000001_000003", "linked-1_000001_000003")):
        seconds = 3 if name.startswith("whole") else 2
        times = np.arange(24_000 * seconds) / 24_000
        still = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        frames = np.stack([np.roll(still, step, axis=1) for step in range(10 * seconds)])
        wave = (0.3 * np.sin(2 * np.pi * (300 + 50 * number) * times)).astype(np.float32)
        synthesize.write_mp4(folder / f"videos/{name}.mp4", frames, wave, fps=10, sample_rate=24_000)
    rows += ["humming,whole-0,0,2,train", "buzzing,whole-0,1,3,train", "humming,linked-0,1,3,train"]
    rows += ["humming,whole-1,0,2,test", "buzzing,linked-1,1,3,test"]
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("humming\nbuzzing\n")


def prepared(world: World, chosen: Iterable[str]) -> Iterator[Scenario]:
    """The scenarios of the chosen commands, with what an undisturbed run makes of each."""
    write_videos(world.trial)
    asked = commands(world.trial)
    for command, words in asked.items():
        new = world.keep(f"{command} new")
        if command == "ks-build":
            undisturbed(world, [*words, "--splits=train"])
            again = world.keep(f"{command} again")
            world.begin(new)
        made = undisturbed(world, words)
        done = world.keep(f"{command} done")
        if command != "ks-build":
            forget(command, world.trial)
            again = world.keep(f"{command} again")
        for start, name in ((new, "new"), (again, "again")):
            if command in chosen:
                world.begin(start)
                ran = undisturbed(world, words)
                expected = artefacts(world.trial)
                yield Scenario(f"{command} {name}", tuple(words), start, expected, ran.sites)
        print(f"{command}: {len(made.sites)} sites when nothing is there yet", flush=True)
        world.begin(done)


def forget(command: str, trial: Path) -> None:
    """Remove what a run had not made yet when it was stopped."""
    if command == "ks-shard":
        (trial / "shards/dataset.json").unlink()
        last = max((trial / "shards/train").glob("*.tar"))
        last.unlink()
        last.with_suffix(".json").unlink()
    elif command == "ks-train":
        shutil.rmtree(trial / f"run/checkpoints/step-{STEPS:08d}")
    else:
        (trial / "run/eval/crossmodal/results.csv").unlink()


def undisturbed(world: World, words: Sequence[str]) -> Ran:
    """A run without a fault, which must end well."""
    ran = world.run(words)
    if ran.code or left_over(world, ran):
        raise SystemExit(
            f"{' '.join(words)}: ended with {ran.code} without any fault, {left_over(world, ran)}:\n{ran.said}"
        )
    return ran


# --- What must be true afterwards ---------------------------------------------------------------------------------------------

PASSING = (".lock", ".ks-scratch", ".lock.held")
"""Names of what says nothing."""


def artefacts(trial: Path) -> dict[str, str]:
    """Every file that a command leaves, by its path: its digest, without what tells times. What is being written is left out."""
    found = {}
    for path in sorted(trial.rglob("*")):
        parts = path.relative_to(trial).parts
        hidden = any(part in PASSING or part.endswith(".part") for part in parts) or parts[0] == "tmp"
        if path.is_file() and not hidden and "tensorboard" not in parts and not path.name.endswith("-journal"):
            found["/".join(parts)] = digest(path)
    return found


def digest(path: Path) -> str:
    """What a file says, apart from times; `broken: …` where it cannot be read as what its name says it is."""
    try:
        return hashlib.sha256(said(path)).hexdigest()
    except Exception as error:  # noqa: BLE001 - whatever its parser raises: it is half a file
        return f"broken: {type(error).__name__}: {error}"


def said(path: Path) -> bytes:
    """A file's bytes, without times where it has any; raises where it cannot be parsed."""
    if path.name == "ledger.sqlite":
        with sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True) as database:
            checked = database.execute("PRAGMA integrity_check").fetchall()
        if checked != [("ok",)]:
            raise ValueError(checked)
        return b"a ledger"
    if path.name == "manifest.parquet":
        from kinetics_sounds import manifest

        manifest.read(path)
    if path.name == "report.json":
        return json.dumps(json.loads(path.read_text()) | {"this_run": None}).encode()
    if path.name == "run.json":  # without the state of the code, which somebody may be writing
        return json.dumps(json.loads(path.read_text()) | {"git": None}).encode()
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return json.dumps([{name: line[name] for name in ("step", "loss", "lr", "epoch")} for line in lines]).encode()
    if path.suffix == ".json":
        json.loads(path.read_text())
    if path.suffix == ".safetensors":
        import safetensors.torch

        safetensors.torch.load(path.read_bytes())
    return path.read_bytes()


CHECKPOINTS, PARTS = "run/checkpoints/step-", ("state.json", "model.safetensors", "optimizer.safetensors")
CHANGING = ("build/manifest.parquet", "build/manifest.csv", "build/report.json", "run/metrics.jsonl")
"""Files that may say less after a fault than after a run without one."""


def wrong_after_fault(
    scenario: Scenario, error: str, before: Mapping[str, str], after: Mapping[str, str], ran: Ran
) -> Iterator[str]:
    """What is not as it must be once a command has met a fault."""
    if ran.code not in (0, 1, 2, 3, 4):
        yield f"ended with {ran.code}"
    if "Traceback" in ran.said:
        yield "a traceback"
    if ran.code == 0 and after != scenario.expected:
        yield f"exit code 0, but {differing(scenario.expected, after)}"
    if ran.code == 1 and not scenario.name.startswith("ks-build"):
        yield "exit code 1, though no clip can fail"
    if ran.code == 2 and error != "EACCES":
        yield "exit code 2, though the machine fails"
    if ran.code in (2, 3, 4) and "/trial" not in ran.said.strip().rpartition("\n")[2]:
        yield "the message names no path"
    for name in before:
        if name not in after and name in scenario.expected:
            yield f"{name} is gone"
    for folder in {name.rpartition("/")[0] for name in after if name.startswith(CHECKPOINTS)}:
        if lacking := [name for name in PARTS if f"{folder}/{name}" not in after]:
            yield f"{folder} lacks {lacking}"
    for name, found in after.items():
        if found.startswith("broken"):
            yield f"{name}: {found}"
        elif name.startswith(CHECKPOINTS) and name not in scenario.expected:
            continue  # the undisturbed run drops it in the end
        elif found not in (before.get(name), scenario.expected.get(name)) and name not in CHANGING:
            yield f"{name} is neither old nor new"


def wrong_statuses(trial: Path, code: int) -> Iterator[str]:
    """What a manifest says wrongly of clips that are all there."""
    from kinetics_sounds import manifest
    from kinetics_sounds.clip import Kind

    if not (path := trial / "build/manifest.parquet").is_file() or digest(path).startswith("broken"):
        if code == 1:
            yield "exit code 1, and no manifest"
        return
    outcomes = manifest.read(path).outcomes
    for outcome in outcomes:
        if outcome.status.kind is Kind.PERMANENT or outcome.status.value == "not_in_source":
            yield f"{outcome.clip.key} is said to be {outcome.status}: {outcome.detail}"
    if code == 1 and all(outcome.media for outcome in outcomes):
        yield "exit code 1, and every clip is ok"


def differing(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Which files differ."""
    names = sorted({*expected, *found})
    told = [
        f"{name} is {'missing' if name not in found else 'too many' if name not in expected else 'another'}"
        for name in names
        if expected.get(name) != found.get(name)
    ]
    return "; ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")


def left_over(world: World, ran: Ran) -> str:
    """What of passing files is still there; empty where nothing is."""
    trial = world.trial
    found = [path.relative_to(trial) for path in trial.rglob("*") if path.name.endswith((".part", "-journal", ".old"))]
    found += [path.relative_to(trial) for path in trial.rglob(".ks-scratch")]
    found += [path.relative_to(trial) for path in (trial / "tmp").iterdir()]
    shared = Path("/dev/shm")
    found += [
        path
        for path in shared.iterdir()
        if ran.processes & {int(part) for part in path.name.split("-") if part.isdecimal()}
    ]
    return ", ".join(map(str, found))


def attempt(world: World, scenario: Scenario, number: int, error: str) -> dict[str, Any]:
    """Fail one site, see to it that nothing is worse than it must be, and run the command again."""
    world.begin(scenario.start)
    before = artefacts(world.trial)
    began = time.monotonic()
    ran = world.run(scenario.words, fail=number, error=error)
    seconds = time.monotonic() - began
    wrong = list(wrong_after_fault(scenario, error, before, artefacts(world.trial), ran))
    if scenario.name.startswith("ks-build"):
        wrong += wrong_statuses(world.trial, ran.code)
    rerun = world.run(scenario.words)
    if rerun.code:
        wrong.append(f"the rerun ended with {rerun.code}: {rerun.said.strip()[-300:]}")
    elif (after := artefacts(world.trial)) != scenario.expected:
        wrong.append(f"after the rerun {differing(scenario.expected, after)}")
    if left := left_over(world, rerun):
        wrong.append(f"left over: {left}")
    kind, path = ran.sites[number - 1] if len(ran.sites) >= number else scenario.sites[number - 1]
    return {
        "scenario": scenario.name,
        "site": number,
        "error": error,
        "kind": kind,
        "path": path,
        "fired": ran.fired,
        "code": ran.code,
        "said": ran.said.strip()[-4000 if wrong else -200 :],
        "seconds": round(seconds, 2),
        "wrong": wrong,
    }


# --- The campaign --------------------------------------------------------------------------------------------------------------


def drawn(scenario: Scenario, *, seed: int, every: int) -> Iterator[tuple[int, str]]:
    """The sites that are tried, spread over kinds and over the run, each with its error."""
    for kind in KINDS:
        places = [number for number, (found, _) in enumerate(scenario.sites, start=1) if found == kind]
        first = random.Random(f"{seed} {scenario.name} {kind}").randrange(every) if len(places) > every else 0
        for number in places[first::every]:
            errors = [each for each in ERRORS if kind not in NEVER.get(each, ())]
            yield number, random.Random(f"{seed} {scenario.name} {number}").choice(errors)


def campaign(asked: argparse.Namespace, job: int, results: "Results") -> None:
    """Every `jobs`-th of the sites."""
    with tempfile.TemporaryDirectory(prefix="disk-faults-", dir=asked.folder) as name:
        world = World(Path(name), spawn=asked.spawn, reads=asked.reads)
        try:
            for scenario in prepared(world, asked.commands):
                sites = sorted(drawn(scenario, seed=asked.seed, every=asked.every))
                kept = world.keep("interrupted")
                for number, error in itertools.islice(sites, job, None, asked.jobs):
                    if asked.sites and number not in asked.sites:
                        continue
                    if not results.holds(scenario.name, number, error):
                        results.add(attempt(world, scenario, number, error))
                world.begin(kept)
                shutil.rmtree(kept)
        finally:
            world.close()


class Results:
    """The results so far, in memory and on disk."""

    def __init__(self, path: Path, *, again: bool) -> None:
        """Read those that are there. `again`: those that were wrong are tried again."""
        self.path, self._lock = path, threading.Lock()
        lines = path.read_text().splitlines() if path.is_file() else []
        found = [json.loads(line) for line in lines]
        self.found = {(each["scenario"], each["site"], each["error"]): each for each in found}
        self._again = {key for key, each in self.found.items() if each["wrong"]} if again else set()

    def holds(self, *key: object) -> bool:
        """Whether a site was tried."""
        return key in self.found and key not in self._again

    def add(self, result: dict[str, Any]) -> None:
        """One more."""
        with self._lock, self.path.open("a") as file:
            print(json.dumps(result), file=file)
            self.found[result["scenario"], result["site"], result["error"]] = result
        if result["wrong"]:
            print("WRONG", json.dumps({**result, "said": result["said"][-600:]}), flush=True)

    def table(self) -> str:
        """Of each scenario, how many faults there were and what they ended with."""
        fired = [each for each in self.found.values() if each["fired"]]
        lines = [
            "| command | faults | of them | exit code 0 | 1 | 2 | 3 | 4 | wrong |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name in dict.fromkeys(each["scenario"] for each in fired):
            own = [each for each in fired if each["scenario"] == name]
            kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(each["kind"] for each in own).most_common())
            codes = Counter(each["code"] for each in own)
            told = " | ".join(str(codes[code]) for code in range(5))
            lines.append(f"| {name} | {len(own)} | {kinds} | {told} | {sum(bool(each['wrong']) for each in own)} |")
        errors = ", ".join(f"{name} {count}" for name, count in Counter(each["error"] for each in fired).most_common())
        return "\n".join(
            [*lines, "", f"{len(fired)} faults: {errors}; {sum(bool(each['wrong']) for each in fired)} wrong"]
        )


def main() -> int:
    """Fail the sites that are asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("disk_faults.jsonl"), help="results, a line a site")
    parser.add_argument("--every", type=int, default=1, help="try every n-th site of each kind")
    parser.add_argument("--commands", nargs="+", choices=list(commands(Path())), default=list(commands(Path())))
    parser.add_argument("--sites", nargs="*", type=int, default=[], help="numbers of sites; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="commands at a time")
    parser.add_argument("--reads", action="store_true", help="fail reads too")
    parser.add_argument("--again", action="store_true", help="try those of --out again that were wrong")
    parser.add_argument("--spawn", action="store_true", help="start workers as the commands always do")
    parser.add_argument("--folder", type=Path, help="where trials lie; default: the folder for temporary files")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        order = serve(spawn=asked.spawn)
        if order:
            leave(order)
        return 0
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    results = Results(asked.out, again=asked.again)
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(lambda job: campaign(asked, job, results), range(asked.jobs)))
    print(results.table())
    return int(any(each["wrong"] for each in results.found.values()))


if __name__ == "__main__":
    sys.exit(main())
