"""AVID's and CMA's recipes: the numbers of the paper and of its code's configs (methods 3.2 to 3.5), typed in again."""

from typing import Any

import pytest
import torch

from kinetics_sounds.settings import Layers
from kinetics_sounds.train.config import recipes
from kinetics_sounds.train.config.settings import Optim
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.interface import Data

from ...shipped import flat, read

RECIPES = recipes.recipes()
BASES = ("avid_as100k", "avid_k400", "cma_as100k", "cma_k400")
ROWS: dict[str, tuple[str, float | None, dict[str, Any]]] = {
    "avid_as100k_table1_cross": ("avid_as100k", 39.95, {}),
    "avid_as100k_table1_self": ("avid_as100k", 32.08, {"avid.mode": "self"}),
    "avid_as100k_table1_joint": ("avid_as100k", 33.04, {"avid.mode": "joint"}),
    "avid_as100k_epoch200": ("avid_as100k", None, {"epochs": 200}),
    "avid_k400_table2": ("avid_k400", 43.1, {}),
    "avid_audioset_table2": (
        *("avid_k400", 46.6),
        {"batch": 160, "epochs": 40, "clips_per_video": 5, "optim.lr": 5e-4},
    ),
    "avid_k32": ("avid_k400", None, {}),
    **{
        f"cma_as100k_fig3_{name}": ("cma_as100k", None, {"cma.weight": weight} if weight != 1 else {})
        for name, weight in (("0_1", 0.1), ("0_3", 0.3), ("1", 1.0), ("3", 3.0), ("10", 10.0))
    },
    "cma_as100k_fig4_video": ("cma_as100k", 40.17, {"cma.criterion": "video"}),
    "cma_as100k_fig4_audio": ("cma_as100k", 39.62, {"cma.criterion": "audio"}),
    "cma_as100k_fig4_either": ("cma_as100k", 40.58, {"cma.criterion": "max"}),
    "cma_as100k_fig4_cma": ("cma_as100k", 41.11, {}),
    "cma_k400_table2": ("cma_k400", 44.5, {}),
    "cma_audioset_table2": (
        *("cma_k400", 48.9),
        {"batch": 160, "epochs": 40, "clips_per_video": 5, "optim.lr": 1e-4, "cma.mine_every": 10},
    ),
    "cma_k32": ("cma_k400", None, {}),
}


def test_every_score_is_typed_in_here_too() -> None:
    """A row without one is tested by what it says itself (`test_recipes.py`)."""
    scored = {
        name
        for name, each in RECIPES.items()
        if isinstance(each.config, Layers)
        and name.startswith(("avid", "cma"))
        and any(line.startswith("score:    the paper's") for line in each.head)
    }

    assert scored == {name for name, (_, score, _) in ROWS.items() if score is not None}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_sets_what_was_varied_and_says_the_papers_score(name: str) -> None:
    base, score, changes = ROWS[name]
    row, plain = flat(name), flat(base)
    told = next(line for line in RECIPES[name].head if line.startswith("score:"))

    assert {option: value for option, value in row.items() if value != plain[option]} == changes
    assert (
        f"the paper's {score}% top-1 on Kinetics-400 by linear probing" in told
        if score
        else "none in the paper" in told
    )


@pytest.mark.parametrize("name", [name for name in (*BASES, *ROWS) if name.startswith("cma")])
def test_cma_says_which_avid_run_it_begins_with(name: str) -> None:
    command = next(line for line in RECIPES[name].head if line.startswith("command:"))
    before = command.partition("--init_from runs/")[2]
    own, avid = read(name), read(before)

    assert command.partition("--shards ")[2].split()[0] == f"data/{before.split('_')[1]}/shards"
    for group in ("avid_r2plus1d", "conv2d", "clip_and_spectrogram"):
        assert own.groups[group] == avid.groups[group]
    assert (own.settings.backbone, own.settings.audio_backbone) == (
        avid.settings.backbone,
        avid.settings.audio_backbone,
    )


@pytest.mark.parametrize("name", [*BASES, *ROWS])
def test_it_says_how_the_set_is_packed_and_measured_for_its_view(name: str) -> None:
    """The short side that an evaluation needs, sound, and the statistics of its own spectrogram."""
    told = next(line for line in RECIPES[name].head if line.startswith("shards:"))
    view = read(name).groups["clip_and_spectrogram"]
    plain = type(view)()

    assert f"ks-shard --short_side {view.eval_side} --audio flac, then ks-shard stats" in told
    own = "".join(
        f" --{option} {getattr(view, option)}"
        for option in ("n_fft", "hop_seconds")
        if getattr(view, option) != getattr(plain, option)
    )
    assert told.endswith(f"ks-shard stats{own}")


def test_the_main_study() -> None:
    settings = read("avid_k400").settings
    view = read("avid_k400").groups["clip_and_spectrogram"]

    assert settings.optim == Optim(name="adam", lr=2e-4, weight_decay=1e-5, schedule="constant")
    assert (settings.batch, settings.epochs, settings.clips_per_video) == (256, 30, 10)
    assert (view.frames, view.rate, view.crop, view.window_seconds, view.n_fft, view.hop_seconds) == (
        8,
        16,
        224,
        2,
        1024,
        0.01,
    )
    assert (view.spectrogram.columns, view.spectrogram.bins) == (200, 257)
    after = read("cma_k400")
    assert (after.settings.optim, after.settings.batch) == (settings.optim, 256)
    assert (after.settings.epochs, after.settings.clips_per_video, after.groups["cma"].mine_every) == (20, 10, 5)


def test_the_small_study() -> None:
    settings = read("avid_as100k").settings
    view = read("avid_as100k").groups["clip_and_spectrogram"]

    assert settings.optim == Optim(name="adam", lr=1e-4, weight_decay=1e-5, schedule="constant")
    assert (settings.batch, settings.epochs, settings.clips_per_video) == (256, 400, 1)
    assert (view.frames, view.frames / view.rate, view.crop) == (16, 1.0, 112)
    assert (view.spectrogram.columns, view.spectrogram.bins) == (100, 129)
    after = read("cma_as100k")
    assert (after.settings.epochs, after.groups["cma"].mine_every, after.groups["cma"].positives) == (200, 50, 32)


@pytest.mark.parametrize("name", ["avid", "cma"])
def test_the_objective(name: str) -> None:
    for size in ("as100k", "k400"):
        its = read(f"{name}_{size}").groups[name]
        assert (its.dim, its.hidden, its.negatives, its.temperature, its.bank_momentum) == (128, 512, 1024, 0.07, 0.5)
        assert its.scale == "paper"


@pytest.mark.parametrize(("name", "video"), [("as100k", 7_015_616), ("k400", 15_379_136)])
@pytest.mark.parametrize("method", ["avid", "cma"])
def test_networks_and_heads_have_the_papers_sizes(method: str, name: str, video: int) -> None:
    with torch.device("meta"):
        made = build._build(read(f"{method}_{name}"), Data(classes=400, samples=0)).method

    assert sum(each.numel() for each in made.parameters()) == video + 4_725_696 + 2 * 590_976
