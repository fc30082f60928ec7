"""IICL's and CrissCross's recipes: the numbers of the papers and of CrissCross's config (methods 4 and 5), typed in again."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from kinetics_sounds.pipelines import shard
from kinetics_sounds.settings import Layers
from kinetics_sounds.train import pretrain
from kinetics_sounds.train.config import recipes, run_folder
from kinetics_sounds.train.config.settings import Optim, read_settings
from kinetics_sounds.train.data.views import clip_and_log_mel as view
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.interface import Batch, Data, Moment
from kinetics_sounds.train.optim.lr_schedule import Plateau
from kinetics_sounds.train.optim.optimizer import make_optimizer, rates

from ...shipped import flat, read

RECIPES = recipes.recipes()
BASES = ("crisscross_k400", "crisscross_k32", "iicl_k400")
VIDEO, AUDIO = "clip_and_log_mel.video_augment", "clip_and_log_mel.audio_augment"
CROPS = "multi_scale_crop,flip,colour_jitter"
TERMS = "crisscross.terms"


def of_k32(scores: dict[str, tuple[float, dict[str, Any]]]) -> dict[str, tuple[str, float | None, dict[str, Any]]]:
    return {f"crisscross_k32_{name}": ("crisscross_k32", score, changes) for name, (score, changes) in scores.items()}


ROWS: dict[str, tuple[str, float | None, dict[str, Any]]] = {
    **of_k32(
        {
            "table1_v1v2": (69.1, {TERMS: "v1v2"}),
            "table1_a1a2": (62.0, {TERMS: "a1a2"}),
            "table1_intra": (69.7, {TERMS: "intra"}),
            "table1_sync": (70.1, {TERMS: "sync"}),
            "table1_async": (69.1, {TERMS: "async"}),
            "table1_sync_intra": (73.8, {TERMS: "sync,intra"}),
            "table1_sync_async": (69.1, {TERMS: "sync,async"}),
            "table1_async_intra": (72.4, {TERMS: "async,intra"}),
            "table1_v1v2_sync_async": (71.3, {TERMS: "v1v2,sync,async"}),
            "table1_a1a2_sync_async": (70.8, {TERMS: "a1a2,sync,async"}),
            "table1_full": (74.8, {}),
            "table2_without_async": (73.8, {TERMS: "sync,intra"}),
            "table2_with_async": (74.8, {}),
            "table3_equal_rates": (59.0, {"optim.lr_multipliers.predictors.*": 1.0}),
            "table3_common_predictor": (73.6, {"crisscross.predictor": "common"}),
            "table3_two_layers": (72.4, {"crisscross.projector_layers": 2}),
            "table3_default": (74.8, {}),
            "table4": (78.1, {}),
            "table5_video_msc_hf_cj": (62.3, {TERMS: "v1v2", VIDEO: CROPS}),
            "table5_video_gs": (68.1, {TERMS: "v1v2", VIDEO: f"{CROPS},grey"}),
            "table5_video_gs_c": (68.3, {TERMS: "v1v2", VIDEO: f"{CROPS},grey,cutout"}),
            "table5_video_gs_gb": (68.7, {TERMS: "v1v2", VIDEO: f"{CROPS},grey,gaussian_blur"}),
            "table5_video_gs_gb_c": (69.1, {TERMS: "v1v2"}),
            "table5_audio_vj": (44.8, {TERMS: "a1a2", AUDIO: "volume_jitter"}),
            "table5_audio_vj_m": (49.5, {TERMS: "a1a2", AUDIO: "volume_jitter,spec_mask"}),
            "table5_audio_vj_m_tw": (49.5, {TERMS: "a1a2", AUDIO: "volume_jitter,time_warp,spec_mask"}),
            "table5_audio_vj_m_rc": (62.0, {TERMS: "a1a2"}),
            "table5_both_gs_c": (73.9, {VIDEO: f"{CROPS},grey,cutout"}),
            "table5_both_gs_gb": (73.5, {VIDEO: f"{CROPS},grey,gaussian_blur"}),
            "table5_both_gs_gb_c": (74.8, {}),
        }
    ),
    **{
        f"crisscross_k32_temporal_{mode}": (
            *("crisscross_k32", None),
            {} if mode == "mild" else {"clip_and_log_mel.temporal": mode},
        )
        for mode in ("none", "mild", "medium", "extreme", "mixed")
    },
    "crisscross_k400_table2_without_async": ("crisscross_k400", 75.8, {TERMS: "sync,intra"}),
    "crisscross_k400_table2_with_async": ("crisscross_k400", 79.9, {}),
    "crisscross_k400_table4": ("crisscross_k400", 83.9, {}),
    "crisscross_audioset_table4": ("crisscross_k400", 87.7, {"optim.warmup_steps": 8710}),
    **{
        f"iicl_audioset_table1_c{count}": ("iicl_k400", score, {} if count == 400 else {"iicl.clusters": count})
        for count, score in ((100, 93.1), (200, 93.5), (400, 94.3), (800, 94.1))
    },
    "iicl_k400_table2_both_ucf101": ("iicl_k400", 77.1, {"iicl.clusters": 101}),
    "iicl_k400_table2_both_hmdb51": ("iicl_k400", 58.3, {"iicl.clusters": 51}),
    "iicl_k400_table2_samples": ("iicl_k400", 76.7, {"iicl.cluster_weight": 0.0}),
    **{
        f"iicl_k400_table2_clusters_{name}": (
            *("iicl_k400", score),
            {"iicl.instance_weight": 0.0, "iicl.first_stage": 0, "iicl.clusters": classes},
        )
        for name, score, classes in (("ucf101", 72.8, 101), ("hmdb51", 45.7, 51))
    },
    "iicl_k400_table3_with_clusters": ("iicl_k400", 74.5, {}),
    "iicl_k400_table3_without_clusters": ("iicl_k400", 72.8, {"iicl.cluster_weight": 0.0}),
    "iicl_ucf101_table4": ("iicl_k400", 56.8, {}),
    "iicl_k400_table5": ("iicl_k400", 90.8, {}),
    "iicl_audioset_table5": ("iicl_k400", 92.8, {}),
}
SMALL = {
    "crisscross": ("--crisscross.dim=8", "--crisscross.hidden=4", "--avid_r2plus1d.width=2"),
    "iicl": ("--iicl.dim=8", "--iicl.hidden=8", "--iicl.clusters=4", "--r2plus1d_18.width=2"),
}
TINY = (
    "--batch=4",
    "--resnet18.width=2",
    *(f"--clip_and_log_mel.{each}" for each in ("crop=28", "resize=32", "frames=4")),
)


def small(name: str) -> tuple[str, ...]:
    return f"--config={name}", *TINY, *SMALL[name.split("_")[0]]


def score(name: str) -> str:
    (line,) = (each for each in RECIPES[name].head if each.startswith("score:"))
    return str(line)


def test_every_row_is_typed_in_here_too() -> None:
    tabled = {name for name, each in RECIPES.items() if name.startswith(("crisscross", "iicl")) and name not in BASES}

    assert tabled == ROWS.keys()
    assert all(isinstance(RECIPES[name].config, Layers) for name in tabled)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_sets_what_was_varied_and_says_the_papers_score(name: str) -> None:
    base, its, changes = ROWS[name]
    row, plain = flat(name), flat(base)
    judged = "top-1 on ESC-50 by a linear SVM" if changes.get(TERMS) == "a1a2" else ""

    assert {option: value for option, value in row.items() if value != plain[option]} == changes
    assert (
        f"the paper's {its}% {judged}" in score(name)
        if its
        else "the paper's is not legible in our copy" in score(name)
    )


@pytest.mark.parametrize(("name", "clips"), [("k32", 16_100), ("k400", 232_067), ("audioset_table4", 1_784_108)])
def test_crisscrosss_optimisation(name: str, clips: int) -> None:
    """Methods 5.4; its warm-up is of two epochs of five clips of a video. Kinetics-Sounds has what Kinetics-400 has."""
    settings = read(f"crisscross_{name}").settings

    assert settings.optim == Optim(
        name="adam",
        lr=2e-4,
        momentum=0.9,
        beta2=0.999,
        weight_decay=1e-4,
        larc=0.001,
        schedule="cosine",
        min_lr_ratio=0.5,
        warmup_steps=2 * 5 * (clips // 2048),
        schedules={"predictors.*": "fixed"},
        lr_multipliers={"predictors.*": 10.0},
    )
    assert (settings.batch, settings.epochs, settings.clips_per_video, settings.sync_bn) == (2048, 100, 5, "on")


def test_crisscrosss_predictors_keep_ten_times_the_base_rate_from_the_first_step_on() -> None:
    optim = read("crisscross_k400").settings.optim
    for step, rate in ((0, 2e-4 / 1131), (1130, 2e-4), (56_500, 1e-4)):
        found = rates(optim, step, steps=56_500, plateau=Plateau())
        assert found == pytest.approx({"cosine": rate, "fixed": 2e-4})
    equal = read("crisscross_k32_table3_equal_rates").settings.optim
    assert equal.lr_multipliers == {"predictors.*": 1.0}


def test_crisscrosss_input() -> None:
    """Methods 5.3 and 10.5."""
    its = read("crisscross_k400").groups["clip_and_log_mel"]

    assert (its.views, its.temporal, its.frames, its.rate, its.crop, its.resize) == (2, "mild", 8, 16, 112, 128)
    assert (its.sample_rate, its.window_seconds, its.bands, its.n_fft, its.log_mel.hop) == (16_000, 2, 80, 1024, 160)
    assert (its.audio_mean, its.audio_std, its.epsilon, its.first) == ((-5.3688107,), (4.410007,), 1.19e-7, "sound")
    assert view.inputs(its).audio == (1, 1, 80, 200)
    assert its.video_augment == f"{CROPS},grey,gaussian_blur,cutout"
    assert its.audio_augment == "volume_jitter,spec_mask,resize_crop"


def test_iicls_optimisation_and_stages() -> None:
    """Methods 4.1 to 4.3."""
    parsed = read("iicl_k400")
    settings, its = parsed.settings, parsed.groups["iicl"]

    assert settings.optim == Optim(name="adam", lr=5e-4, weight_decay=1e-6, schedule="constant")
    assert (settings.batch, settings.epochs, its.first_stage, settings.clips_per_video) == (256, 600, 300, 1)
    assert (its.dim, its.clusters, its.temperature, its.cluster_temperature) == (1024, 400, 0.5, 0.5)
    assert (its.instance_weight, its.cluster_weight, its.attention) == (1.0, 0.5, True)


def test_iicls_input() -> None:
    """Methods 4.1 and 10.4."""
    its = read("iicl_k400").groups["clip_and_log_mel"]

    assert (its.views, its.frames, its.rate, its.crop, its.first) == (1, 32, 30, 128, "clip")
    assert (its.sample_rate, its.window_seconds, its.bands, its.n_fft, its.epsilon) == (16_000, 2, 40, 512, 1e-6)
    assert (its.log_mel.hop, its.frame_seconds * 16_000, its.audio_mean) == (320, 400, ())
    assert view.inputs(its).audio == (1, 1, 40, 100)
    assert (its.video_augment, its.audio_augment) == (f"{CROPS},grey", "volume_jitter,spec_mask")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("crisscross_k400", 49_662_080),
        ("crisscross_k32", 49_662_080),
        ("crisscross_k32_table3_common_predictor", 49_662_080 - 2_100_736),
        ("crisscross_k32_table3_two_layers", 49_662_080 - 2 * (2048 * 2048 + 3 * 2048)),
        ("iicl_k400", 31_300_125 + 11_170_240 + 787_968 + 467_856),
        ("iicl_audioset_table1_c800", 31_300_125 + 11_170_240 + 787_968 + 467_856 + 400 * 513),
    ],
)
def test_networks_and_heads_have_the_papers_sizes(name: str, count: int) -> None:
    with torch.device("meta"):
        made = build.build_model(read(name), Data(classes=400, samples=0)).method

    assert sum(each.numel() for each in made.parameters()) == count


@pytest.mark.parametrize("name", [*BASES, *(name for name, (_, _, changes) in ROWS.items() if changes)])
def test_every_recipe_takes_a_step(name: str) -> None:
    """On what its view would give, with narrow networks: all parts move but those of a stage or modality that is not asked.

    Rows that set nothing are their base.
    """
    parsed = read_settings(small(name))
    its, generator = parsed.groups["clip_and_log_mel"], torch.Generator().manual_seed(0)
    arrays = {
        part: (torch.rand(4, *shape, generator=generator) * (255 if part == "video" else 1)).to(kind)
        for part, (shape, kind) in view.arrays(its).items()
    }
    given = view.augment(arrays, dataclasses.replace(its, audio_mean=(0.5,), audio_std=(0.3,)))
    torch.manual_seed(0)
    method = build.build_model(parsed, Data(classes=2, samples=12)).method.train()
    optimizer = make_optimizer(method, parsed.settings.optim)
    before = {each: value.clone() for each, value in method.named_parameters()}
    place = torch.arange(4)

    output = method(Batch(given["video"], given["audio"], place % 2, place, place), Moment(seed=0, step=0, epoch=0))
    output.loss.backward()
    optimizer.step()

    moved = {each.split(".")[0] for each, value in method.named_parameters() if not torch.equal(value, before[each])}
    assert output.loss.isfinite()
    if name.startswith("iicl"):
        assert moved == {"video", "audio", "cluster" if "table2_clusters" in name else "instance"}
    else:
        alone = {"v1v2": {"video"}, "a1a2": {"audio"}}
        assert moved == alone.get(parsed.groups["crisscross"].terms, {"video", "audio"}) | {"heads", "predictors"}


@pytest.mark.parametrize("name", ["crisscross_k400", "crisscross_k32_temporal_extreme", "iicl_k400"])
def test_a_run_on_a_set_with_sound(name: str, sounding: Path, tmp_path: Path) -> None:
    """From the shards through the view to a checkpoint; IICL after ks-shard stats with the numbers of its recipe's head."""
    shards, out = tmp_path / "shards", tmp_path / "run"
    shutil.copytree(sounding, shards)
    argv = [*small(name), f"--shards={shards}", f"--out={out}", "--steps=1", "--workers=0", "--device=cpu"]
    if name == "iicl_k400":
        assert pretrain.main(argv) == 2  # what it is standardised by is not there
        (line,) = (each for each in RECIPES[name].head if "ks-shard stats" in each)
        assert shard.main(["stats", str(shards), "--workers=1", *line.partition("ks-shard stats ")[2].split()]) == 0
        assert pretrain.main(argv) == 2  # a run of one step has no second stage
        argv.append("--iicl.first_stage=0")

    assert pretrain.main(argv) == 0

    its = run_folder.reopen(out).groups["clip_and_log_mel"]
    assert len(its.audio_mean) == (40 if name == "iicl_k400" else 1)
    assert run_folder.read_facts(out)["recipe"] == name
    assert (out / "checkpoints" / "step-00000001" / "model.safetensors").is_file()
