"""What docs/extending.md says of decoders, views, backbones, methods, losses, recipes, probes and protocols, done as it says."""

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinetics_sounds.errors import MediaError, RunError
from kinetics_sounds.media import decode
from kinetics_sounds.train import evaluate, load, pretrain
from kinetics_sounds.train.config import recipes, settings
from kinetics_sounds.train.data import augment

from ..documents import EXAMPLES, installed

DECODER = "kinetics_sounds/media/decode/from_start.py"
VIEW, BACKBONE = "train/data/views/still.py", "train/models/backbones/small.py"
PROBE = "train/probes/centroid.py"
AUGMENTATION = "train/data/augment/fade.py"
LOSS, RECIPE, TABLE = (
    "train/losses/agreement.py",
    "train/recipes/agree_k32.yaml",
    "train/recipes/agree_tables.yaml",
)
METHOD, PROTOCOL = "train/methods/agree.py", "train/evaluation/protocols/widths.py"


@pytest.fixture
def added(tmp_path: Path) -> Iterator[None]:
    """A view and a backbone."""
    with installed(VIEW, tmp_path), installed(BACKBONE, tmp_path):
        yield


def test_a_decoder_gives_the_frames_and_refuses_what_is_outside(films: dict[int, bytes], tmp_path: Path) -> None:
    """Film 0 has 20 frames."""
    wanted = decode.decode(films[0], [7, 3], decoder="pyav")

    with installed(DECODER, tmp_path):
        assert "from_start" in decode.names()
        np.testing.assert_array_equal(decode.decode(films[0], [7, 3], decoder="from_start"), wanted)
        with pytest.raises(MediaError):
            decode.decode(films[0], [20], decoder="from_start")
    assert "from_start" not in decode.names()


def test_a_run_decodes_with_it(small: Callable[..., list[str]], finished: Path, tmp_path: Path) -> None:
    with installed(DECODER, tmp_path):
        assert pretrain.main(small(tmp_path / "run", "--clip_and_mel.decoder=from_start")) == 0

    names = ["checkpoints/step-00000006/model.safetensors"] * 2
    made, wanted = ((run / name).read_bytes() for run, name in zip((tmp_path / "run", finished), names, strict=True))
    assert made == wanted


def test_an_augmentation_is_drawn_and_done(small: Callable[..., list[str]], finished: Path, tmp_path: Path) -> None:
    """A run that uses it learns something else, and one view of a whole white clip is half of it at the darkest."""
    name = "checkpoints/step-00000006/model.safetensors"
    with installed(AUGMENTATION, tmp_path):
        assert pretrain.main(small(tmp_path / "run", "--clip_and_mel.video_augment=flip,fade")) == 0
        chosen = augment.find("fade", modality="video")
        white = torch.ones(2, 3, 2, 4, 4)
        faded = augment.apply_all(chosen, white, torch.tensor([[1.0, 0.5], [0.0, 0.5]]))

    assert (tmp_path / "run" / name).read_bytes() != (finished / name).read_bytes()
    assert faded.amax(dim=(1, 2, 3, 4)).tolist() == [0.5, 1.0]


@pytest.mark.usefixtures("added")
def test_a_view_and_a_backbone_are_trained_and_judged_by_a_probe(
    shards: Path, small: Callable[..., list[str]], tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "results"
    assert pretrain.main(small(run, "--view=still", "--still.side=32", "--backbone=small", "--small.width=4")) == 0
    with installed(PROBE, tmp_path):
        argv = [f"--run={run}", f"--shards={shards}", f"--out={out}", "--workers=0", "--device=cpu", "--clips=2"]
        assert evaluate.main(["centroid", *argv, "--centroid.power=1"]) == 0

    told: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert (told["probe"], told["settings"], told["fit_split"]) == ("centroid", {"power": 1.0}, "train")
    assert told["scores"]["top1_chance"] == 50  # two classes
    assert 0 <= told["scores"]["top1"] <= 100


def test_a_method_is_trained_with_its_own_settings_and_asked_by_a_protocol(
    small: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 - cosine is at most 2, and its square 4."""
    run = tmp_path / "run"
    with installed(METHOD, tmp_path), installed(PROTOCOL, tmp_path):
        assert pretrain.main(small(run, "--method=agree", "--agree.power=2", "--r3d.width=2")) == 0
        capsys.readouterr()
        assert evaluate.main(["widths", f"--run={run}"]) == 0

    assert capsys.readouterr().out == "video 16, audio 16\n"
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses
    assert all(0 < loss <= 4 for loss in losses)


def test_encoders_are_loaded_where_their_method_is_not_installed(
    shards: Path,
    small: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The features are the same; commands that need the method name the file to put back."""
    run, rest = tmp_path / "run", [f"--shards={shards}", "--workers=0", "--device=cpu", "--clips=1"]
    with installed(METHOD, tmp_path):
        assert pretrain.main(small(run, "--method=agree", "--r3d.width=2", "--steps=2")) == 0
        whole = load(run)
    capsys.readouterr()

    alone = load(run)

    wanted = {name: each for name, each in whole.method.state_dict().items() if name.startswith(("video.", "audio."))}
    torch.testing.assert_close(dict(alone.method.state_dict()), wanted, rtol=0, atol=0)
    assert f"{run}: its method, agree, is not installed here" in caplog.text
    assert evaluate.main(["knn", f"--run={run}", *rest]) == 0
    assert evaluate.main(["knn", f"--run={run}", *rest, "--untrained"]) == 0
    missing = "--method agree is not installed here; put its file back: train/methods/agree.py\n"
    for argv in (["cluster", "--cluster.features=embedding"], ["vote"], ["cluster_head"]):
        capsys.readouterr()
        assert evaluate.main([*argv, f"--run={run}", *rest]) == 2
        assert capsys.readouterr().err.endswith(missing), argv
    assert pretrain.main([f"--config={run / 'config.yaml'}", "--steps=4"]) == 2
    assert capsys.readouterr().err.endswith(f"{run / 'config.yaml'}: {missing}")
    assert pretrain.main([f"--config={run / 'config.yaml'}", "--method=simclr", f"--out={tmp_path / 'other'}"]) == 0


def test_of_a_run_whose_backbone_is_not_installed_the_file_is_told(
    small: Callable[..., list[str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with installed(BACKBONE, tmp_path):
        assert pretrain.main(small(run, "--backbone=small", "--small.width=4", "--steps=1")) == 0

    with pytest.raises(
        RunError, match=r"--backbone small is not installed here; put its file back: train/models/backb"
    ):
        load(run)


def test_a_loss_is_what_can_be_counted_by_hand(tmp_path: Path) -> None:
    """Distances of 1 and 2, to the power of 2, are 2.5 in the mean."""
    video_ND, audio_ND = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 2.0], [-1.0, 0.0]])
    with installed(LOSS, tmp_path):
        agreement_loss = importlib.import_module("kinetics_sounds.train.losses.agreement").agreement_loss

    assert agreement_loss(video_ND, audio_ND, power=2.0).item() == 2.5
    assert agreement_loss(video_ND, video_ND, power=1.0).item() == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match="at least 2 samples"):
        agreement_loss(video_ND[:1], audio_ND[:1], power=1.0)


def test_recipes_are_listed_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(recipes.RECIPES, tmp_path / "recipes")
    for path in (RECIPE, TABLE):
        (tmp_path / "recipes" / Path(path).name).write_text(EXAMPLES[path])
    monkeypatch.setattr(recipes, "RECIPES", tmp_path / "recipes")
    recipes.recipes.cache_clear()
    try:
        with installed(METHOD, tmp_path):
            listed = pretrain.list_recipes()
            plain, own, row = (
                settings.read_settings([f"--config={name}"]) for name in ("avcl_k32", "agree_k32", "agree_k32_distance")
            )
    finally:
        recipes.recipes.cache_clear()

    assert (
        "agree_k32\n    Agreement of video and audio, in AVCL's setting.\n    command:  ks-train --config agree_k32"
        in listed
    )
    assert "agree_k32_distance\n    Agreement by the distance itself." in listed
    assert "changes:  agree_k32 with {agree: {power: 1.0}}" in listed
    assert [each.groups["agree"].power for each in (plain, own, row)] == [1.0, 2.0, 1.0]
    assert (
        (own.settings.method, own.settings.optim)
        == ("agree", plain.settings.optim)
        == (row.settings.method, row.settings.optim)
    )


@pytest.mark.usefixtures("added")
def test_settings_are_read_from_the_command_line() -> None:
    parsed = settings.read_settings(["--config=avcl_tiny", "--view=still", "--backbone=small", "--still.side=8"])

    assert (parsed.groups["still"].side, parsed.groups["small"].width) == (8, 16)


def test_every_example_is_used_by_a_test() -> None:
    others = ("kinetics_sounds/sources", "kinetics_sounds/lists", "kinetics_sounds/datasets", "pipelines")
    assert {path for path in EXAMPLES if not path.startswith(others)} == {
        DECODER,
        VIEW,
        BACKBONE,
        PROBE,
        AUGMENTATION,
        METHOD,
        PROTOCOL,
        LOSS,
        RECIPE,
        TABLE,
    }
