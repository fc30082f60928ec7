"""The pages that lead from data to a result: their commands are run in order, on small data in place of what a reader has."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kinetics_sounds import classes

from .pages import commands, stood_in, unsaid
from .pipelines.conftest import inline, video
from .pipelines.executors.conftest import free_ports
from .pipelines.mirror import tar
from .pipelines.test_commands import call

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Chain:
    """How a page is run."""

    places: Mapping[str, str]
    """Replacements: the text on the page, and what the test puts in its place."""
    more: Mapping[str, tuple[str, ...]]
    """Options that are added to a command, by how it begins."""
    codes: Mapping[str, int] = field(default_factory=dict)
    """Exit codes that are not 0, by how the command begins."""


def longest(table: Mapping[str, object], line: str) -> str:
    """The longest key that the line begins with, or nothing."""
    return max((key for key in table if line.startswith(key)), key=len, default="")


def run(page: str, chain: Chain, folder: Path) -> str:
    """Run every command of the page within the folder; all that they print, in the page's words."""
    said = []
    for command in commands(page):
        line = " ".join(command.words)
        words = [*stood_in(command.words, chain.places), *chain.more.get(longest(chain.more, line), ())]
        done = ranks(words[1:], folder) if words[0] == "torchrun" else call(words[0], *words[1:], cwd=folder)
        assert done.returncode == chain.codes.get(longest(chain.codes, line), 0), (line, done.stdout, done.stderr)
        said += [done.stdout, done.stderr]
    text = "".join(said)
    for theirs, ours in chain.places.items():
        text = text.replace(ours, theirs)
    return text


def ranks(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """torchrun with these words, on as many machines as they say, all of them this one; the last one's end."""
    argv = [sys.executable, "-m", "torch.distributed.run", *words]
    nodes = int(words[words.index("--nnodes") + 1]) if "--nnodes" in words else 1
    others = [subprocess.Popen(argv, cwd=folder) for _ in range(nodes - 1)]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert [other.wait(20) for other in others] == [0] * len(others)
    return done


LABELS = ("playing drums", "singing", "tapping pen")
INDEX = tuple(sorted(classes.read("k31").labels).index(label) for label in LABELS)
SMALL = ("--workers=0", "--device=cpu", "--batch=4", "--r3d.width=2", "--clip_and_mel.frames=8")


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of three labels of K32, as files, as whole videos and in a tar; of each other label a clip that is nowhere."""
    folder = tmp_path_factory.mktemp("data")
    rows = ["label,youtube_id,time_start,time_end,split"]
    members = []
    for number in range(12):
        name, split = f"clip{number:07d}", ("train", "train", "val", "test")[number // 3]
        rows.append(f"{LABELS[number % 3]},{name},7,11,{split}")
        path = folder / f"kinetics400/{LABELS[number % 3]}/{name}_000007_000011.mp4"
        video(path, seconds=4, seed=number, tone_hz=300 + 100 * number)
        members.append((path.name, path.read_bytes()))
    for number, label in enumerate(sorted({*classes.read("k32").labels} - {*LABELS})):
        rows.append(f"{label},gone{number:07d},0,2,train")
    video(folder / "whole_videos/clip0000000.mp4", seconds=12)
    (folder / "k400_tars").mkdir()
    (folder / "k400_tars/train.tar").write_bytes(tar(*members))
    (folder / "annotations.csv").write_text("\n".join([*rows, ""]))
    return folder


def test_k32_from_a_local_copy(data: Path, tmp_path: Path) -> None:
    page = "docs/k32_local.md"
    chain = Chain(
        places={"/data": str(data)},
        more={
            "ks-build": ("--annotations", str(data / "annotations.csv"), "--workers=1"),
            "ks-build --status": (),
            "ks-shard --manifest": ("--workers=1",),
            "ks-train": (*SMALL, "--steps=4"),
            "ks-train bench": (*SMALL, "--batch=2", "--seconds=0.1"),
            "ks-eval": ("--workers=0", "--device=cpu", "--clips=2"),
            "ks-eval finetune": ("--workers=0", "--device=cpu", "--batch=4", "--epochs=1", "--clips=2"),
            "ks-view": ("--embed=1",),
        },
        codes={
            "ks-build": 1,
            "ks-build --status": 0,
            "ks-build --classes k32 --source local:/data/kinetics400 --dry_run": 0,
        },
    )

    said = run(page, chain, tmp_path)

    assert unsaid(page, said) == []
    assert (tmp_path / "runs/avcl_k32_recommended/eval/linear/results.json").is_file()


@pytest.mark.filterwarnings("ignore")  # of mlcroissant's own
def test_a_papers_split(data: Path, tmp_path: Path) -> None:
    page = "docs/paper_split.md"
    (tmp_path / "my_train.txt").write_text("".join(f"clip{n:07d}_000007_000011,10,{INDEX[n % 3]}\n" for n in range(9)))
    (tmp_path / "my_test.txt").write_text("".join(f"clip{n:07d}_7,10,{INDEX[n % 3]}\n" for n in range(9, 12)))
    names = [f"{LABELS[n % 3]}/clip{n:07d}_000007_000011.avi".replace(" ", "_") for n in range(4)]
    (tmp_path / "crisscross_train.txt").write_text("\n".join([*names, ""]))
    chain = Chain(
        places={"/data": str(data)},
        more={
            "ks-build": ("--annotations", str(data / "annotations.csv"), "--workers=1"),
            "ks-publish --manifest": ("--workers=1",),
            "ks-export": ("--workers=1",),
        },
        codes={"ks-publish diff": 1},
    )

    said = run(page, chain, tmp_path)

    assert unsaid(page, said) == []


@pytest.mark.slow_campaign
def test_several_gpus(data: Path, tmp_path: Path) -> None:
    """Two processes of this machine in place of eight GPUs, in float32 and without the compiler, which takes minutes."""
    local = ("--annotations", str(data / "annotations.csv"), "--workers=1")
    assert call("ks-build", "--classes=k32", f"--source=local:{data}/kinetics400", *local, cwd=tmp_path).returncode == 1
    assert call("ks-shard", "--workers=1", cwd=tmp_path).returncode == 0
    [port] = free_ports(1)
    eight = {"8": "2", "256": "4", "14": "1", "bf16": "float32", "runs/bf16": "runs/bf16", "--compile": "--workers=0"}
    chain = Chain(
        places={**eight, "node1:29500": f"127.0.0.1:{port}"},
        more={
            "ks-train": (*SMALL, "--steps=2"),
            "ks-train bench": (*SMALL, "--seconds=0.1"),
            "ks-eval finetune": ("--workers=0", "--device=cpu", "--batch=4", "--epochs=1", "--clips=2"),
            "torchrun --nproc_per_node 8": ("--workers=0", "--device=cpu", "--clips=2"),
            "torchrun --nnodes": (*SMALL, "--shards=data/k32/shards", "--steps=2"),
        },
    )

    run("docs/gpus.md", chain, tmp_path)

    for name in ("avcl_k32_recommended", "bf16", "nodes"):
        assert (tmp_path / f"runs/{name}/checkpoints/step-00000002").is_dir()


def test_what_no_command_prints_is_noticed() -> None:
    assert "published/k31: no findings" in unsaid("docs/paper_split.md", "published/k31: no finding")
    assert "version: 1.0.0" not in unsaid("docs/paper_split.md", "version: 2.11.0")  # numbers are left out
