"""Published weights become a run: features equal those of the authors' network, and every tensor left out is listed."""

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kinetics_sounds import train
from kinetics_sounds.errors import RunError
from kinetics_sounds.pipelines import publish
from kinetics_sounds.train import convert_weights, evaluate, pretrain
from kinetics_sounds.train.config.settings import backbones_of, read_settings
from kinetics_sounds.train.conversion import names, pickled
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.evaluation.encoders import Encoders

from ..conftest import write_set
from .published import Avid, CrissCross, with_numbers

pytestmark = pytest.mark.skipif(not pickled.is_safe(), reason="torch is too old to read weights safely, and refuses to")
AVID = """
base: cma_k400
avid_r2plus1d: {width: 4}
conv2d: {width: 4}
cma: {dim: 5, hidden: 6}
clip_and_spectrogram: {frames: 2, crop: 28, n_fft: 64}
"""
CRISSCROSS = """
base: crisscross_k400
avid_r2plus1d: {width: 4}
resnet18: {width: 4}
crisscross: {dim: 5, hidden: 3}
clip_and_log_mel: {frames: 2, crop: 28, resize: 32}
"""
BINS = 17
"""Of a spectrogram of n_fft 64."""


def prepare(folder: Path) -> None:
    """Small recipes, and the statistics that AVID's repository has."""
    (folder / "small_avid.yaml").write_text(AVID)
    (folder / "small_crisscross.yaml").write_text(CRISSCROSS)
    np.savez(folder / "stats.npz", mean=np.linspace(-30, -10, BINS), std=np.full(BINS, 12.5))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with small recipes and statistics."""
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def avid_checkpoint(network: nn.Module, prefix: str = "module.") -> dict[str, Any]:
    """What AVID's trainer saves: the model, its memory banks and its optimizer."""
    model = {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    banks = {"nce_average.view1_mem": torch.ones(9, 5), "criterion.avg_exp_score": torch.tensor(2.2)}
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    return {"epoch": 20, "model": model, "optimizer": optimizer.state_dict(), "train_criterion": banks}


def converted(recipe: str, *more: str) -> int:
    code: int = convert_weights.main([f"--recipe={recipe}", "--out=out", *more])
    return code


def avid(*more: str) -> int:
    return converted("small_avid.yaml", "--weights=avid.pth.tar", "--audio_stats=stats.npz", *more)


def check_features(encoders: Encoders, video: nn.Module, audio: nn.Module) -> None:
    """Features of both networks on the same inputs."""
    pictures_BCTHW, sounds_BCTF = torch.randn(2, 3, 4, 40, 40), torch.randn(2, 1, 33, 40)
    with torch.no_grad():
        torch.testing.assert_close(encoders.video(pictures_BCTHW), video(pictures_BCTHW))
        torch.testing.assert_close(encoders.audio(sounds_BCTF[:, :, None]), audio(sounds_BCTF))


@pytest.mark.parametrize(("prefix", "old"), [("module.", True), ("", False)])
def test_avids_checkpoint_gives_the_same_features_and_embeddings(here: Path, prefix: str, *, old: bool) -> None:
    """In torch 1.4's format, which AVID was saved in, and in that since 1.6."""
    network: Any = with_numbers(Avid())
    torch.save(avid_checkpoint(network, prefix), "avid.pth.tar", _use_new_zipfile_serialization=not old)

    assert avid() == 0

    encoders = train.load("out")
    check_features(encoders, network.video_model, network.audio_model)
    feature_BD = torch.randn(3, 32)
    assert torch.equal(encoders.method.embed("audio", feature_BD), network.audio_proj(feature_BD))
    assert encoders.lacks == ("memory_cosine", "precision")
    assert encoders.video.conv1[1].num_batches_tracked.item() == 7
    assert encoders.view_settings.audio_mean == pytest.approx(np.linspace(-30, -10, BINS))


def test_crisscross_s_two_files_give_the_same_features_and_no_embeddings(here: Path) -> None:
    network: Any = with_numbers(CrissCross())
    torch.save(network.video_backbone.state_dict(), "vid.pth.tar")
    torch.save(network.audio_backbone.state_dict(), "aud.pth.tar")

    assert converted("small_crisscross.yaml", "--weights=vid.pth.tar", "--audio_weights=aud.pth.tar") == 0

    encoders = train.load("out")
    check_features(encoders, network.video_backbone, network.audio_backbone)
    assert encoders.lacks == ("heads", "predictors")
    saved = load_file("out/checkpoints/step-00000000/model.safetensors")
    assert {name.partition(".")[0] for name in saved} == {"video", "audio"}


def test_crisscross_s_own_checkpoint_has_both_networks(here: Path) -> None:
    network: Any = with_numbers(CrissCross())
    torch.save({"model": network.state_dict(), "epoch": 3}, "both.pth.tar")

    assert converted("small_crisscross.yaml", "--weights=both.pth.tar") == 0

    check_features(train.load("out"), network.video_backbone, network.audio_backbone)
    told = json.loads(Path("out/run.json").read_text())["published"]
    tops = {name.partition(".")[0] for name in told["left_out"]}
    assert tops == {"video_projector", "video_encoder", "epoch"}


def test_of_the_audio_network_s_file_nothing_else_is_taken(here: Path) -> None:
    first, second = (with_numbers(CrissCross(), seed) for seed in (1, 2))
    pictures, sounds = first.get_submodule("video_backbone"), second.get_submodule("audio_backbone")
    torch.save({"model": first.state_dict()}, "one.pth.tar")
    torch.save({"model": second.state_dict()}, "two.pth.tar")

    assert converted("small_crisscross.yaml", "--weights=one.pth.tar", "--audio_weights=two.pth.tar") == 0

    check_features(train.load("out"), pictures, sounds)


def test_run_json_says_whose_weights_they_are_and_what_was_left_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(avid_checkpoint(with_numbers(Avid())), "avid.pth.tar")

    assert avid() == 0

    facts = json.loads(Path("out/run.json").read_text())
    told = facts["published"]
    assert (facts["recipe"], facts["shards"], facts["fingerprint"]) == ("small_avid", "", "")
    assert facts["note"].endswith("converted, not trained here")
    assert (told["repository"], told["license"]) == ("facebookresearch/AVID-CMA", "CC BY-NC 4.0")
    assert told["left_out"] == ["epoch", "optimizer", "train_criterion"]
    assert told["files"] == [
        {"name": "avid.pth.tar", "bytes": Path("avid.pth.tar").stat().st_size, "sha256": told["files"][0]["sha256"]}
    ]
    shown = capsys.readouterr().out
    assert "left out of the file: epoch (1), optimizer (1), train_criterion (1)" in shown
    assert "not in the file: memory_cosine, precision" in shown
    assert sorted(path.name for path in Path().iterdir() if path.name.startswith("out")) == ["out"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["checkpoints", "config.yaml", "run.json"]


@pytest.mark.parametrize(
    ("recipe", "restated", "parameters"),
    [
        ("avid_k400", lambda: Avid(64, 512, 128), 15_379_136 + 4_725_696 + 2 * 590_976),
        ("crisscross_k400", lambda: CrissCross(64), 15_379_136 + 11_170_240),
    ],
)
def test_at_full_size_each_tensor_has_its_place_and_its_shape(
    recipe: str, restated: Callable[[], nn.Module], parameters: int
) -> None:
    parsed = read_settings(["--config", recipe])
    backbones = backbones_of(parsed.settings)
    model = build.build_meta(parsed, convert_weights.UNKNOWN)
    wanted = model.state_dict()

    found = names.convert(
        restated().state_dict(), wanted, names.authors_of(parsed.settings.method, backbones), backbones
    )

    assert {name: each.shape for name, each in found.tensors.items()} == {
        name: each.shape for name, each in wanted.items() if name.partition(".")[0] not in found.lacks
    }
    learnt = {name for name, _ in model.named_parameters()}
    assert sum(each.numel() for name, each in found.tensors.items() if name in learnt) == parameters


STEM, NORM, HEAD = "video_model.conv1.0.weight", "audio_model.block4.bn2.running_var", "video_proj.projection.4.bias"


def test_a_full_disk_is_told_as_one_and_not_as_a_fault_of_the_file(
    here: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(avid_checkpoint(with_numbers(Avid())), "avid.pth.tar")
    with (small_disk / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
        while True:
            rest.write(bytes(1 << 12))

    options = ["--weights=avid.pth.tar", "--audio_stats=stats.npz", f"--out={small_disk / 'out'}"]
    assert convert_weights.main(["--recipe=small_avid.yaml", *options]) == 3

    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"stopped: No space left on device: .*\.safetensors; free some space and run it again", line)
    assert [path.name for path in small_disk.iterdir()] == ["rest"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (NORM, None, "lacks audio_model.block4.bn2.running_var"),
        (HEAD, None, "lacks video_proj.projection.4.bias"),
        (STEM, torch.zeros(4, 3, 3, 5, 5), f"its {STEM} is (4, 3, 3, 5, 5), where this network needs (4, 3, 3, 7, 7)"),
        (STEM, torch.full((4, 3, 3, 7, 7), torch.inf), f"its {STEM} is not finite"),
        (HEAD, torch.full((5,), torch.nan), f"its {HEAD} is not finite"),
    ],
)
def test_what_is_missing_or_of_another_shape_is_named(
    here: Path, name: str, value: torch.Tensor | None, said: str
) -> None:
    parsed = read_settings(["--config=small_avid.yaml"])
    backbones = backbones_of(parsed.settings)
    found = {**with_numbers(Avid()).state_dict(), name: value}
    wanted = build.build_meta(parsed, convert_weights.UNKNOWN).state_dict()

    with pytest.raises(RunError) as refused:
        names.convert(
            {each: tensor for each, tensor in found.items() if tensor is not None}, wanted, names.AVID, backbones
        )

    assert str(refused.value) == said


def test_weights_of_another_network_are_refused_and_nothing_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network: Any = with_numbers(CrissCross())
    torch.save(network.video_backbone.state_dict(), "vid.pth.tar")
    torch.save(network.audio_backbone.state_dict(), "aud.pth.tar")
    words = ["small_crisscross.yaml", "--weights=vid.pth.tar"]

    assert converted(*words) == 2
    first = capsys.readouterr().err
    assert converted(*words, "--audio_weights=vid.pth.tar") == 2
    second = capsys.readouterr().err

    said = "vid.pth.tar: lacks audio_backbone.conv1.0.weight, audio_backbone.conv1.1.weight, audio_backbone.conv1.1.bias and "
    assert f"{said}117 more; give the file of the audio network, too, with --audio_weights" in first
    assert "more; give weights of small_crisscross.yaml, or another --recipe" in second
    assert not list(here.glob("out*"))


def test_help_names_exactly_the_options_that_scripts_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        convert_weights.main(["--help"])

    shown = capsys.readouterr().out
    found = set(re.findall(r"^  (?:-h, )?--([a-z_]+)", shown, flags=re.MULTILINE))
    assert found == {"help", "version", "recipe", "weights", "audio_weights", "audio_stats", "out", "json"}
    assert "python -m kinetics_sounds.train.convert_weights --recipe cma_k400" in shown


def test_options_that_do_not_fit_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(avid_checkpoint(with_numbers(Avid())), "avid.pth.tar")
    np.savez("other.npz", mean=np.zeros(5), std=np.ones(5))
    Path("other_view.yaml").write_text("base: small_avid.yaml\nview: clip_and_mel\n")
    Path("full").mkdir()
    Path("full/file").touch()
    said = {
        "--recipe=avcl_k32 --weights=avid.pth.tar": "its method is avcl; weights are published of avid, cma, crisscross",
        "--recipe=small_avid.yaml --weights=avid.pth.tar": "--audio_stats: is required",
        "--recipe=small_avid.yaml --weights=avid.pth.tar --audio_stats=other.npz": "one for each of 17, not 5 and 5",
        "--recipe=other_view.yaml --weights=avid.pth.tar --audio_stats=stats.npz": "does not fit other_view.yaml",
        "--recipe=small_avid.yaml --weights=avid.pth.tar --out=full": "--out full: is there already",
        "--recipe=small_avid.yaml": "--weights: is required",
    }

    for words, reason in said.items():
        assert convert_weights.main(words.split()) == 2
        assert reason in capsys.readouterr().err


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CrissCross's weights, converted; not to be changed."""
    folder = tmp_path_factory.mktemp("crisscross")
    prepare(folder)
    torch.save({"model": with_numbers(CrissCross()).state_dict()}, folder / "both.pth.tar")
    with contextlib.chdir(folder):
        assert converted("small_crisscross.yaml", "--weights=both.pth.tar") == 0
    return folder / "out"


@pytest.fixture
def crisscross(once: Path, here: Path) -> Path:
    """A copy of it, "out"."""
    return Path(shutil.copytree(once, here / "out"))


def test_a_converted_run_is_evaluated_like_any_other(
    crisscross: Path, films: dict[int, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(Path("set"), {"train": (4,), "test": (2,)}, films, classes="tiny", sound=True)
    words = ["--run=out", "--device=cpu", "--workers=0", "--clips=1"]

    assert evaluate.main(["knn", *words]) == 2
    assert "has no shards of its own (its weights were converted)" in capsys.readouterr().err
    assert evaluate.main(["knn", *words, "--shards=set"]) == 0
    told = json.loads(Path("out/eval/knn/results.json").read_text())
    assert (told["checkpoint"], told["trained_on"]["fingerprint"]) == ("step-00000000", "")
    asked = ["crossmodal", *words, "--shards=set", "--crossmodal.features=embedding"]
    assert evaluate.main(asked) == 2
    assert "has no projection heads, as none were published" in capsys.readouterr().err
    assert evaluate.main([*asked, "--untrained"]) == 0


def test_training_goes_on_from_converted_weights_with_heads_of_its_own(
    crisscross: Path, films: dict[int, bytes]
) -> None:
    write_set(Path("set"), {"train": (4,)}, films, classes="tiny", sound=True)
    more = ["--batch=4", "--steps=1", "--optim.warmup_steps=0", "--device=cpu", "--workers=0", "--optim.lr=0"]

    assert pretrain.main(["--config=small_crisscross.yaml", "--shards=set", "--init_from=out", "--out=run", *more]) == 0

    before, after = (train.load(place).method.state_dict() for place in ("out", "run"))
    assert torch.equal(after["video.conv5.1.norm.weight"], before["video.conv5.1.norm.weight"])
    assert after["heads.video.0.weight"].abs().max() > 0


def test_others_weights_are_not_published_as_ones_own(crisscross: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish.main(["run", "out"]) == 2

    assert "has weights of other authors, under their license" in capsys.readouterr().err


@pytest.mark.parametrize("lacks", [["video"], ["heads", "audio"], "heads", [3], ["a.b"], {}])
def test_a_run_that_lacks_its_encoders_is_refused(crisscross: Path, lacks: object) -> None:
    path = crisscross / "run.json"
    facts = json.loads(path.read_text())
    facts["published"]["lacks"] = lacks
    path.write_text(json.dumps(facts))

    with pytest.raises(RunError, match=re.escape("out: is not a training run (run.json: published: lacks")):
        train.load("out")
