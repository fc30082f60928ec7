"""Every shipped recipe can be read, built and repeated from its own head; the paper's have the paper's numbers."""

import dataclasses
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from kinetics_sounds import plugins
from kinetics_sounds.settings import Layers
from kinetics_sounds.train import pretrain
from kinetics_sounds.train.config import recipes, run_folder
from kinetics_sounds.train.config.settings import PLUGINS, Optim, backbones_of, read_settings
from kinetics_sounds.train.engine import build, flops, setup
from kinetics_sounds.train.interface import Data
from kinetics_sounds.train.methods.crisscross import TERMS
from kinetics_sounds.train.models.heads import AmfmSettings
from kinetics_sounds.train.optim.optimizer import make_optimizer

from ...shipped import flat, read

RECIPES = recipes.recipes()
NAMES = sorted(RECIPES)
TABLED = [name for name in NAMES if isinstance(RECIPES[name].config, Layers)]
"""The rows of the tables."""
TRAINING_CLIPS = {"k32": 16_100, "k100": 50_200, "k400": 232_067, "as100k": 100_000, "audioset": 1_784_108}
"""Methods 1.10 and 3.5."""
R3D, C3D, R2PLUS1D, AMFM = 14_361_792, 27_661_440, 14_365_303, 787_456
"""Parameters, methods 1.5 and 1.6."""
CLASSIFIER = 512 * 34 + 34
"""Of the second layer, for 34 classes."""
COUNTED: dict[tuple[Any, ...], float] = {}
"""Operations of a sample, by what decides them."""
SUPERVISED = {"method": "supervised", "epochs": 150, "val_split": "val", "optim.weight_decay": 5e-3}
"""A baseline is trained as AVCL's encoders are fine-tuned (methods 1.10)."""
ROWS: dict[str, tuple[float | None, int, dict[str, Any]]] = {
    "avcl_k32_table1_raw_audio": (50.2, 2 * R3D + AMFM, {"clip_and_mel.audio": "waveform"}),
    "avcl_k32_table1_one_frame": (
        *(67.9, 2 * R3D + AMFM),
        {"clip_and_mel.frames": 1, "clip_and_mel.audio": "mel_window"},
    ),
    "avcl_k32_table1_mel_window": (72.1, 2 * R3D + AMFM, {"clip_and_mel.audio": "mel_window"}),
    "avcl_k32_table1_whole_mel": (75.6, 2 * R3D + AMFM, {}),
    "avcl_k32_table1_one_model": (60.5, R3D + AMFM, {"encoders": "shared"}),
    "avcl_k32_table2_no_cgra": (72.5, 2 * R3D + AMFM, {"avcl.cgra_layer": "off"}),
    "avcl_k32_table2_conv3": (68.5, 2 * R3D + AMFM, {"avcl.cgra_layer": "conv3"}),
    "avcl_k32_table2_conv4": (69.3, 2 * R3D + AMFM, {"avcl.cgra_layer": "conv4"}),
    "avcl_k32_table2_conv5": (70.9, 2 * R3D + AMFM, {"avcl.cgra_layer": "conv5"}),
    "avcl_k32_table2_pool": (75.6, 2 * R3D + AMFM, {}),
    "avcl_k32_table2_conv5_pool": (70.4, 2 * R3D + AMFM, {"avcl.cgra_layer": "conv5+pool"}),
    "avcl_k32_table3_no_selfcl": (73.5, 2 * R3D + AMFM, {"avcl.lambda_cor": 1.0, "avcl.lambda_self": 0.0}),
    "avcl_k32_table3_cor_0_1": (72.0, 2 * R3D + AMFM, {"avcl.lambda_cor": 0.1, "avcl.lambda_self": 0.9}),
    "avcl_k32_table3_cor_0_3": (72.2, 2 * R3D + AMFM, {"avcl.lambda_cor": 0.3, "avcl.lambda_self": 0.7}),
    "avcl_k32_table3_cor_0_5": (74.1, 2 * R3D + AMFM, {"avcl.lambda_cor": 0.5, "avcl.lambda_self": 0.5}),
    "avcl_k32_table3_cor_0_7": (73.7, 2 * R3D + AMFM, {"avcl.lambda_cor": 0.7, "avcl.lambda_self": 0.3}),
    "avcl_k32_table3_cor_0_9": (75.6, 2 * R3D + AMFM, {}),
    "avcl_k32_table3_no_amfm": (73.5, 2 * R3D, {"avcl.amfm_stage": "off"}),
    "avcl_k32_table4_r3d": (75.6, 2 * R3D + AMFM, {}),
    "avcl_k32_table4_c3d": (74.0, 2 * C3D + AMFM, {"backbone": "c3d"}),
    "avcl_k32_table4_r2plus1d": (77.2, 2 * R2PLUS1D + AMFM, {"backbone": "r2plus1d"}),
    **{
        f"avcl_{data}_table4_{name}": (scores[number], parameters, changes | (more if data == "k100" else {}))
        for number, data in enumerate(("k32", "k100"))
        for name, scores, parameters, changes, more in (
            ("simclr", (69.7, 59.1), 2 * (R3D + 328_320), {"method": "simclr"}, {}),
            ("moco", (68.2, 58.2), 4 * (R3D + 65_664), {"method": "moco", "moco.queue": 4096}, {"moco.queue": 16_384}),
            ("byol", (73.3, 61.4), 4 * (R3D + 3_158_016) + 2 * 2_109_440, {"method": "byol"}, {}),
            ("simsiam", (72.9, 60.8), 2 * (R3D + 1_576_960 + 2_100_224), {"method": "simsiam"}, {}),
            ("barlow", (69.6, 59.3), 2 * (R3D + 9_445_376), {"method": "barlow"}, {}),
            ("iic", (60.5, 46.4), 2 * R3D, {"method": "iic"}, {}),
            (
                *("baseline_r", (60.4, 53.6), 2 * R3D + 512 * 512 + 512 + CLASSIFIER),
                *(SUPERVISED | {"supervised.modalities": "video"}, {}),
            ),
            (
                *("baseline_a", (52.9, 40.9), 2 * R3D + 512 * 512 + 512 + CLASSIFIER),
                *(SUPERVISED | {"supervised.modalities": "audio"}, {}),
            ),
            (
                *("baseline_ra", (73.9, 61.3), R3D + 1024 * 512 + 512 + CLASSIFIER),
                *(SUPERVISED | {"encoders": "shared"}, {}),
            ),
            ("baseline_ra_separate", (None, None), 2 * R3D + 1024 * 512 + 512 + CLASSIFIER, SUPERVISED, {}),
        )
    },
    "avcl_k32_ancestor": (
        *(None, 2 * R3D + 1_050_112),
        {"avcl.amfm.gate": "sigmoid", "avcl.amfm.shared_excitation": False, "avcl.amfm.mid_activation": "relu"},
    ),
    "avcl_k100": (64.4, 2 * R3D + AMFM, {}),
    "avcl_k100_table4_r3d": (64.4, 2 * R3D + AMFM, {}),
    "avcl_k100_table4_c3d": (61.3, 2 * C3D + AMFM, {"backbone": "c3d"}),
    "avcl_k100_table4_r2plus1d": (67.1, 2 * R2PLUS1D + AMFM, {"backbone": "r2plus1d"}),
}
"""Methods 1.11, typed in again: the paper's score, how many parameters are pretrained, what differs from `avcl_k32`."""

SIDES = {"resize_height": 36, "resize_width": 36, "crop": 32, "mel_resize": 32, "mel_crop": 16}
TINY = tuple(f"--clip_and_mel.{name}={side}" for name, side in SIDES.items())
"""A view of the small sets."""


def head(name: str) -> dict[str, str]:
    """The `word: text` lines of a recipe's head."""
    return {found[1]: found[2] for line in RECIPES[name].head if (found := re.match(r"(\w+): +(.*)", line))}


def said(name: str) -> tuple[str, dict[str, Any]]:
    """The base of a row of a table, and what it sets otherwise."""
    base, changes = RECIPES[name].config.parts
    return Path(base).stem, yaml.safe_load(changes)


def training_clips(name: str) -> int | None:
    """Of the set that a recipe's name speaks of; None where that is none of those."""
    return next((clips for word, clips in TRAINING_CLIPS.items() if word in name.split("_")), None)


def place(name: str) -> Path:
    config = RECIPES[name].config
    return config.name if isinstance(config, Layers) else config


def built(name: str) -> nn.Module:
    with torch.device("meta"):  # shapes without weights
        clips = training_clips(name) or 16_100
        model: nn.Module = build.build_model(read(name), Data(34, clips)).method
    return model


@pytest.fixture(scope="module")
def listed() -> str:
    text: str = pretrain.list_recipes()
    return text


def test_there_are_the_papers_the_recommended_and_the_tiny_one() -> None:
    assert {"avcl_k32", "avcl_k32_recommended", "avcl_tiny"} <= set(NAMES)


@pytest.mark.parametrize(
    "name",  # the rows of K100 are those of K32 on other data
    [pytest.param(name, marks=[pytest.mark.slow_campaign] * ("k100_table" in name)) for name in NAMES],
)
class TestEvery:
    def test_can_be_built(self, name: str) -> None:
        model = built(name)

        assert sum(parameter.numel() for parameter in model.parameters()) > 0

    def test_says_how_to_run_it_on_what_how_long_and_what_comes_out(self, name: str) -> None:
        told = head(name)

        assert {"command", "hardware", "time", "score"} <= set(told)
        assert all(told.values())

    def test_the_command_at_its_head_is_this_recipe(self, name: str) -> None:
        program, option, named, *_ = shlex.split(head(name)["command"])

        assert (program, option, named) == ("ks-train", "--config", name)
        assert read(name).configs == (place(name),)
        assert run_folder.recipe_name(place(name)) == name

    def test_is_listed_with_its_head(self, name: str, listed: str) -> None:
        assert f"{name}\n    " in listed
        for word, text in head(name).items():
            assert re.search(rf"^    {word}: +{re.escape(text)}$", listed, re.MULTILINE)

    def test_sets_only_what_it_means(self, name: str) -> None:
        """A recipe is about learning: where data and runs lie, and what the machine can do, is the user's."""
        config = RECIPES[name].config
        parts = config.parts if isinstance(config, Layers) else (config,)
        texts = [yaml.safe_load(part if isinstance(part, str) else part.read_text()) for part in parts]

        assert not {"shards", "out", "workers", "device", "seed", "resume", "list"}.intersection(*texts)


@pytest.mark.slow_campaign
def test_the_hours_that_heads_speak_of_are_the_operations_that_the_trainer_counts() -> None:
    """As for MFU (`engine/flops.py`), of all samples of all epochs. Of a set that is not known here nothing need be said."""
    for name in NAMES:
        settings, clips = read(name).settings, training_clips(name)
        if clips is None:
            continue
        samples = clips // settings.batch * settings.batch * settings.epochs * settings.clips_per_video
        operations = samples * operations_of_a_sample(name)
        found = re.match(
            r"(about|less than) (\d+) GPU-hours? \(([\d.]+)e18 operations at 50 TFLOP/s\)", head(name)["time"]
        )
        right = (
            f"{name}: time: about {operations / 50e12 / 3600:.1f} GPU-hours ({operations / 1e18:.2f}e18 at 50 TFLOP/s)"
        )
        assert found, right
        over = float(found[2]) - operations / 50e12 / 3600
        assert 0 < over < 1 if found[1] == "less than" else abs(over) < 0.6, right
        assert abs(float(found[3]) - operations / 1e18) < 0.06, right


def operations_of_a_sample(name: str) -> float:
    """There and back, of all encoders and heads; recipes that differ in numbers without a size alone are counted once."""
    parsed = read(name)
    view = plugins.load(PLUGINS["view"], parsed.settings.view).inputs(parsed.groups[parsed.settings.view])
    method = dataclasses.asdict(parsed.groups[parsed.settings.method])
    sizes = {option: value for option, value in method.items() if not isinstance(value, float) and option != "clusters"}
    if "terms" in sizes:  # CrissCross: what is seen decides, not what of it is compared
        sizes["terms"] = sorted({each for term in sizes["terms"].split(",") for pair in TERMS[term] for each in pair})
    settings = parsed.settings
    key = (
        settings.method,
        *backbones_of(settings),
        settings.encoders,
        str(sorted(sizes.items(), key=str)),
        view.views,
        view.video,
        view.audio,
    )
    if key not in COUNTED:
        data = Data(classes=34, samples=20_000, batch=2)
        with torch.device("meta"):
            made = build._build(parsed, data)
        COUNTED[key] = flops.step_flops(made, data, rows=2) / 2
    return COUNTED[key]


def test_the_steps_that_heads_speak_of_are_those_they_make() -> None:
    told = {name: re.search(r"\((\d+) epochs of about ([\d,]+) steps\)", head(name)["time"]) for name in NAMES}

    assert told["avcl_k32"]
    for name, numbers in told.items():
        if numbers and (clips := training_clips(name)):
            settings = read(name).settings
            assert int(numbers[1]) == settings.epochs
            assert int(numbers[2].replace(",", "")) == clips // settings.batch * settings.clips_per_video


def test_listing_needs_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert pretrain.main(["--list"]) == 0
    assert capsys.readouterr().out == f"{listed}\n"
    assert list(tmp_path.iterdir()) == []


def test_one_recipe_can_be_listed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(["--list", "--config=avcl_k32_table2_conv4"]) == 0

    told = capsys.readouterr().out
    assert told.startswith("avcl_k32_table2_conv4\n    Table II: CGRA on the pooled maps of conv4")
    assert told.count("command:") == 1


def test_the_list_says_that_scores_are_the_papers(listed: str) -> None:
    assert listed.endswith(
        "Of these, only avcl_tiny has been run at full size here; scores of papers are as published."
    )


@pytest.mark.parametrize("name", TABLED)
class TestEveryRow:
    """Of any table, by what it says itself."""

    def test_sets_otherwise_what_it_says_and_nothing_else(self, name: str) -> None:
        base, changes = said(name)
        row, plain = flat(name), flat(base)

        assert {option: value for option, value in row.items() if value != plain.get(option)} == recipes.flat(changes)
        assert plain.keys() <= row.keys()

    def test_tells_what_it_sets(self, name: str) -> None:
        (base, changes), told = said(name), head(name)["changes"]

        assert (
            yaml.safe_load(told.removeprefix(f"{base} with ")) == changes if changes else told == f"none, it is {base}"
        )

    def test_says_whose_score_it_is_and_that_nobody_ran_it(self, name: str) -> None:
        assert re.match(
            r"the paper's \d+\.\d+% .*not reproduced yet$|none in the paper, none |the paper's is not legible in our copy, none ",
            head(name)["score"],
        )
        assert "Never run at full size here" in head(name)["hardware"]


def test_of_a_baseline_nothing_is_fine_tuned() -> None:
    told = {name: head(name)["score"] for name in TABLED if "_baseline_" in name}

    assert (
        "the paper's 60.4% top-1 on K32 by its own classifier, trained with labels"
        in told["avcl_k32_table4_baseline_r"]
    )
    assert not [name for name, score in told.items() if "fine-tuning" in score]


def test_every_score_of_avcl_is_typed_in_here_too() -> None:
    scored = {name for name in TABLED if name.startswith("avcl_") and head(name)["score"].startswith("the paper's")}

    assert scored == {name for name, (score, _, _) in ROWS.items() if score is not None}


@pytest.mark.parametrize("name", ROWS)
class TestThePapersRows:
    def test_sets_what_the_paper_varied_and_nothing_else(self, name: str) -> None:
        assert (said(name)[0], recipes.flat(said(name)[1])) == ("avcl_k32", ROWS[name][2])

    def test_has_the_papers_score(self, name: str) -> None:
        score, data = ROWS[name][0], {"k32": "K32", "k100": "K100"}[name.split("_")[1]]
        told = head(name)["score"]

        assert told.startswith("none in the paper" if score is None else f"the paper's {score}% top-1 on {data} ")

    def test_has_as_many_parameters_as_can_be_counted(self, name: str) -> None:
        assert sum(parameter.numel() for parameter in built(name).parameters()) == ROWS[name][1]


@pytest.mark.parametrize("backbone", ["r3d", "r2plus1d", "c3d"])
def test_barlow_twins_gives_biases_and_norms_of_every_backbone_the_second_rate(backbone: str) -> None:
    """C3D's convolutions have biases, and other places in its blocks than R3D's."""
    parsed = read_settings(["--config=barlow_k32", f"--backbone={backbone}"])
    with torch.device("meta"):
        model = build.build_model(parsed, Data(34, 16_100)).method
    groups = make_optimizer(model, parsed.settings.optim).param_groups
    rates = {(each.ndim == 1, round(group["lr"], 9)) for group in groups for each in group["params"]}

    assert rates == {(False, 1.6), (True, 0.0384)}  # 0.2 and 0.0048 times 2,048 / 256


@pytest.mark.parametrize(
    ("name", "devices"), [("simclr_k32", 64), ("byol_k32", 64), ("barlow_k32", 32), ("simsiam_k32", 8)]
)
def test_on_the_devices_that_their_heads_name_batch_norms_are_of_all(name: str, devices: int) -> None:
    """As in the originals, whose 64 samples a device are more than `auto` asks for."""
    assert setup.uses_sync_batchnorm(read(name).settings, ranks=devices)


def test_the_counts_are_those_of_the_paper() -> None:
    assert 2 * R3D + AMFM == 29_511_040


def test_k100_has_the_same_recommendation() -> None:
    assert read("avcl_k100_recommended").text == read("avcl_k32_recommended").text


def test_a_run_of_a_row_says_all_of_it_again_by_itself(small: Callable[..., list[str]], tmp_path: Path) -> None:
    _, *rest = small(tmp_path / "run", "--steps=1", *TINY)
    argv = ["--config=avcl_k32_table2_conv5_pool", *rest]

    assert pretrain.main(argv) == 0

    assert run_folder.read_facts(tmp_path / "run")["recipe"] == "avcl_k32_table2_conv5_pool"
    asked, kept = read_settings(argv), run_folder.reopen(tmp_path / "run")
    assert (kept.settings, kept.groups) == (asked.settings, asked.groups)
    assert kept.groups["avcl"].cgra_layer == "conv5+pool"
    assert run_folder.recipe_name(kept.configs[-1]) == "avcl_k32_table2_conv5_pool"


@pytest.mark.parametrize(
    "name", ["avcl_k32_table1_raw_audio", "avcl_k32_table1_one_frame", "avcl_k32_table1_mel_window"]
)
def test_a_row_that_needs_the_sound_runs_on_a_set_that_has_it(
    name: str, small: Callable[..., list[str]], sounding: Path, tmp_path: Path
) -> None:
    _, *rest = small(tmp_path / "run", "--steps=1", f"--shards={sounding}", *TINY)
    argv = [word for word in rest if not word.startswith("--clip_and_mel.frames")]

    assert pretrain.main([f"--config={name}", *argv]) == 0
    assert run_folder.read_facts(tmp_path / "run")["recipe"] == name


def test_a_set_without_sound_is_refused_by_a_row_that_needs_it(
    small: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, *rest = small(tmp_path / "run", *TINY)

    assert pretrain.main(["--config=avcl_k32_table1_raw_audio", *rest]) == 2

    assert "have no flac, which the view needs; recreate them with ks-shard --audio flac" in capsys.readouterr().err


class TestThePapers:
    """Methods 1.3, 1.4, 1.10 and 1.12, typed in again."""

    def test_optimisation(self) -> None:
        settings = read("avcl_k32").settings

        assert (settings.method, settings.backbone, settings.view) == ("avcl", "r3d", "clip_and_mel")
        assert settings.encoders == "separate"
        assert (settings.batch, settings.epochs, settings.steps) == (16, 300, None)
        assert settings.optim == Optim(
            name="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4, schedule="constant", warmup_steps=0
        )

    def test_losses(self) -> None:
        avcl = read("avcl_k32").groups["avcl"]

        assert (avcl.lambda_cor, avcl.lambda_self, avcl.off_diagonal_weight) == (0.9, 0.1, 0.005)
        assert (avcl.temperature, avcl.center, avcl.reduction, avcl.amfm_stage) == (0.5, True, "sum", "pretrain")
        assert avcl.cgra_layer == "pool"
        assert avcl.amfm == AmfmSettings(gate="relu", shared_excitation=True, mid_activation="none")

    def test_inputs(self) -> None:
        view = read("avcl_k32").groups["clip_and_mel"]

        assert (view.frames, view.resize_height, view.resize_width, view.crop) == (16, 128, 171, 112)
        assert (view.mel_resize, view.mel_crop, view.audio_layout, view.audio_channels) == (128, 112, "repeat16", 3)
        assert (view.audio, view.window_seconds) == ("mel", 1.2)

    def test_parameters(self) -> None:
        assert sum(parameter.numel() for parameter in built("avcl_k32").parameters()) == 29_511_040


def test_the_recommended_one_has_no_gate_to_learn() -> None:
    """Two R3D of 14 361 792 parameters and nothing else: a gate in pretraining leaks one modality into the other."""
    model = built("avcl_k32_recommended")

    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * 14_361_792
