"""CPU seconds until commands answer, of a small clip through building and packing, and the size of an environment.

    python benchmarks/start.py [--before FOLDER] [--size]

FOLDER has an earlier version to compare with: `pip install --no-deps --target FOLDER CHECKOUT`. `--size` also installs what is
committed here, without and with `[train]`, into new environments (some minutes; network). Of three tries the least is taken, user
and system time of all processes. Writes `benchmarks/start.md`.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kinetics_sounds.pipelines import demo

ROOT = Path(__file__).parents[1]
TRIES = 3
TORCH = "python -c 'import torch'"
HELPS = [f"ks-{name} --help" for name in ("build", "shard", "export", "publish", "view", "doctor", "demo")]
LINES: dict[str, str] = {
    TORCH: "",
    **dict.fromkeys(HELPS, "1 s"),
    **dict.fromkeys(["ks-train --version", "ks-train --list", "ks-eval --help"], "1 s"),
    "ks-train --help": "torch + 1 s",
    "ks-train --nonsense": "torch + 1 s",
    "ks-eval linear --help": "torch + 1 s",
    "ks-eval knn --run nowhere": "torch + 1 s",
    "ks-build, one clip": "",
    "ks-shard, one clip": "3 s",
}
"""What is measured, and the most that it may take."""
CLIP = {
    "ks-build, one clip": (
        "ks-build --classes one.txt --annotations one.csv --splits train --source local:videos --workers 1 --out OUT"
    ),
    "ks-shard, one clip": "ks-shard --manifest built/manifest.parquet --out OUT --workers 1",
}


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--size", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="start-") as scratch:
        folder = Path(scratch)
        prepare(folder)
        versions = {"before": {"PYTHONPATH": str(asked.before.resolve())}} if asked.before else {}
        versions["now"] = {}
        rows = {
            line: {name: least(line, folder, own) if has(line, own) else None for name, own in versions.items()}
            for line in LINES
        }
        sizes = {extra: size(folder / f"installed{extra}", extra) for extra in ("", "[train]")} if asked.size else {}
    page = Path(__file__).with_suffix(".md")
    page.write_text(told(rows, sizes))
    print(page.read_text())


def prepare(folder: Path) -> None:
    """A video of five seconds, a list of one clip of it, and that clip built."""
    (folder / "videos").mkdir()
    video = demo.Video(class_index=0, number=0, seed=0)
    demo.render((video, folder / "videos"))
    (folder / "one.txt").write_text("archery\n")
    row = f"archery,{video.youtube_id},0,4,train\n"
    (folder / "one.csv").write_text(f"label,youtube_id,time_start,time_end,split\n{row}")
    run(CLIP["ks-build, one clip"].replace("OUT", "built"), folder, {})


def has(line: str, own: Mapping[str, str]) -> bool:
    """Whether a version has the command of a line."""
    return (
        not own
        or not line.startswith("ks-")
        or (Path(own["PYTHONPATH"]) / "bin" / line.split()[0].rstrip(",")).exists()
    )


def least(line: str, folder: Path, own: Mapping[str, str]) -> float:
    """CPU seconds of the best of some tries."""
    return min(seconds(line, folder / f"{number}", own) for number in range(TRIES))


def seconds(line: str, out: Path, own: Mapping[str, str]) -> float:
    """CPU seconds of a process and all that it started and waited for; what it writes goes to `out`, and away."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(CLIP.get(line, line).replace("OUT", str(out)), out.parent, own)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["rm", "-rf", str(out)], check=True)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(line: str, cwd: Path, own: Mapping[str, str]) -> None:
    """A line as a shell takes it, in this environment; a refusal (exit code 2) is an answer too."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        line,
        shell=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **own},
        capture_output=True,
        check=False,
    )
    if done.returncode not in (0, 2):
        sys.exit(f"{line}: {done.stderr.decode()[-2000:]}")


def size(folder: Path, extra: str) -> float:
    """Gigabytes of a new environment with an extra, pip itself among them."""
    environment, tree = folder / "environment", folder / "tree"
    venv.create(environment, with_pip=True)
    tree.mkdir()
    subprocess.run(f"git archive HEAD | tar -x -C {tree}", shell=True, check=True, cwd=ROOT)
    pip = [environment / "bin/python", "-m", "pip", "install", "--quiet", "--constraint", tree / "constraints.txt"]
    subprocess.run([*map(str, pip), f"{tree}{extra}"], check=True)
    found = subprocess.run(["du", "-s", "--block-size=1M", environment], check=True, capture_output=True, text=True)
    return int(found.stdout.split()[0]) * 2**20 / 1e9


def told(rows: Mapping[str, Mapping[str, float | None]], sizes: Mapping[str, float]) -> str:
    """The page."""
    versions = list(rows[TORCH])
    how = (
        f"`python benchmarks/start.py`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}: user and system seconds of all processes, the least of {TRIES} tries."
    )
    cells = [
        [f"`{line}`", *("" if each is None else f"{each:.2f}" for each in row.values()), LINES[line]]
        for line, row in rows.items()
    ]
    lines = ["# How soon commands answer", "", how, "", *table(["", *versions, "at most"], cells)]
    if sizes:
        cells = [[f"`pip install 'kinetics-sounds{extra}'`", f"{each:.2f}"] for extra, each in sizes.items()]
        lines += ["", *table(["", "GB"], cells), ""]
        lines.append("With the torch that this machine's package index has; builds for CUDA bring some gigabytes more.")
    return "\n".join([*lines, ""])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    main()
