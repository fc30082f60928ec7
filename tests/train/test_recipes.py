"""Every shipped recipe can be read, built and repeated from its own head; the paper's has the paper's numbers."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from kinetics_sounds.train import pretrain, run
from kinetics_sounds.train.heads import AmfmSettings
from kinetics_sounds.train.methods import Data

NAMES = sorted(run.recipes())
K32_TRAINING_CLIPS = 16_100
"""Methods 1.10."""


def head(name: str) -> dict[str, str]:
    """The `word: text` lines of the comment at a recipe's head."""
    lines = run.find_recipe(name).read_text().splitlines()
    return {found[1]: found[2] for line in lines if (found := re.match(r"# (\w+): +(.*)", line))}


def built(name: str) -> nn.Module:
    with torch.device("meta"):  # shapes without weights
        model: nn.Module = run.build(run.read([f"--config={name}"]), Data(34, 16_100)).model
    return model


def test_there_are_the_papers_the_recommended_and_the_tiny_one() -> None:
    assert {"avcl_k32", "avcl_k32_recommended", "avcl_tiny"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestEvery:
    def test_can_be_built(self, name: str) -> None:
        model = built(name)

        assert sum(parameter.numel() for parameter in model.parameters()) > 0

    def test_says_how_to_run_it_on_what_how_long_and_what_comes_out(self, name: str) -> None:
        told = head(name)

        assert {"command", "hardware", "time", "score"} <= set(told)
        assert all(told.values())

    def test_the_command_at_its_head_is_this_recipe(self, name: str) -> None:
        program, *argv = shlex.split(head(name)["command"])
        parsed = run.read(argv)

        assert program == "ks-train"
        assert parsed.configs == (run.find_recipe(name),)

    def test_is_listed_with_its_head(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert pretrain.main(["--list"]) == 0
        listed = capsys.readouterr().out

        assert f"{name}\n    " in listed
        for word, text in head(name).items():
            assert re.search(rf"^    {word}: +{re.escape(text)}$", listed, re.MULTILINE)

    def test_sets_only_what_it_means(self, name: str) -> None:
        """A recipe is about learning: where data and runs lie, and what the machine can do, is the user's."""
        text = run.find_recipe(name).read_text()

        assert not re.search(r"^(shards|out|workers|device|seed|resume|list):", text, re.MULTILINE)


def test_the_steps_that_heads_speak_of_are_those_they_make() -> None:
    told = {name: re.search(r"\((\d+) epochs of about ([\d,]+) steps\)", head(name)["time"]) for name in NAMES}

    assert told["avcl_k32"]
    for name, numbers in told.items():
        if numbers:
            settings = run.read([f"--config={name}"]).settings
            assert int(numbers[1]) == settings.epochs
            assert int(numbers[2].replace(",", "")) == K32_TRAINING_CLIPS // settings.batch


def test_listing_needs_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert pretrain.main(["--list"]) == 0
    assert list(tmp_path.iterdir()) == []


class TestThePapers:
    """Methods 1.3, 1.4, 1.10 and 1.12, typed in again."""

    PARSED = run.read(["--config=avcl_k32"])

    def test_optimisation(self) -> None:
        settings = self.PARSED.settings

        assert (settings.method, settings.backbone, settings.view) == ("avcl", "r3d", "clip_and_mel")
        assert (settings.batch, settings.epochs, settings.steps) == (16, 300, None)
        assert settings.optim == run.Optim(
            name="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4, schedule="constant", warmup_steps=0
        )

    def test_losses(self) -> None:
        avcl = self.PARSED.groups["avcl"]

        assert (avcl.lambda_cor, avcl.lambda_self, avcl.off_diagonal_weight) == (0.9, 0.1, 0.005)
        assert (avcl.temperature, avcl.center, avcl.reduction, avcl.amfm_stage) == (0.5, True, "sum", "pretrain")
        assert avcl.amfm == AmfmSettings(gate="relu", shared_excitation=True, mid_activation="none")

    def test_inputs(self) -> None:
        view = self.PARSED.groups["clip_and_mel"]

        assert (view.frames, view.resize_height, view.resize_width, view.crop) == (16, 128, 171, 112)
        assert (view.mel_resize, view.mel_crop, view.audio_layout, view.audio_channels) == (128, 112, "repeat16", 3)

    def test_parameters(self) -> None:
        assert sum(parameter.numel() for parameter in built("avcl_k32").parameters()) == 29_511_040


def test_the_recommended_one_has_no_gate_to_learn() -> None:
    """Two R3D of 14 361 792 parameters and nothing else: a gate in pretraining leaks one modality into the other."""
    model = built("avcl_k32_recommended")

    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * 14_361_792
