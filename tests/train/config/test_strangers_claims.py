"""What a stranger's run, checkpoint or set says of itself is checked before it is used, and before it takes memory."""

import json
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kinetics_sounds.errors import KineticsSoundsError, MediaError, RunError
from kinetics_sounds.media import mel
from kinetics_sounds.shards import index, layout
from kinetics_sounds.train import evaluate, load, pretrain
from kinetics_sounds.train.config import run_folder
from kinetics_sounds.train.engine import build as engine_build
from kinetics_sounds.train.interface import Data
from kinetics_sounds.train.models.backbones import r3d

Argv = Callable[..., list[str]]
HUGE = 10**9


@pytest.fixture
def strange(finished: Path, tmp_path: Path) -> Path:
    """A copy of a run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "strange"))


def claim(folder: Path, **said: Any) -> None:
    """Have a run's config say otherwise: a group's settings by its name."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for name, value in said.items():
        config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(config))


def peak_bytes() -> int:
    """Of this process's memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"r3d": {"width": HUGE}}, "r3d: (the model has|cannot build the model)"),
        ({"r3d": {"width": 10**25}}, "r3d"),
        ({"r3d": {"channels": HUGE}}, "r3d: the model has"),
        (
            {"audio_backbone": "conv2d", "conv2d": {"width": HUGE}},
            "--r3d, --conv2d: (the model has|cannot build the model)",
        ),
        ({"audio_backbone": "conv2d", "conv2d": {"width": 2}}, "belongs to another model: its audio"),
        ({"audio_backbone": "../r3d"}, "--audio_backbone: '../r3d' is none of"),
        ({"r3d": {"width": 256}}, r"belongs to another model: its .* is \(.*where the run's settings say \("),
        ({"method": "supervised"}, "belongs to another model: its classifier.* is not there"),
        ({"method": "supervised", "supervised": {"hidden": HUGE}}, "belongs to another model|the model has"),
        ({"clip_and_mel": {"frames": HUGE}}, "are more than .* pixels"),
        ({"clip_and_mel": {"resize_height": HUGE}}, "are more than .* pixels"),
        ({"clip_and_mel": {"mel_resize": HUGE}}, "larger than any sound"),
        ({"clip_and_mel": {"window_seconds": 1e12}}, "larger than any sound"),
        ({"view": "clip_and_spectrogram", "clip_and_spectrogram": {"frames": HUGE}}, "are more than .* pixels"),
        (
            {"view": "clip_and_spectrogram", "clip_and_spectrogram": {"window_seconds": 3600.0, "hop_seconds": 1e-4}},
            "larger than any sound",
        ),
        ({"view": "clip_and_spectrogram", "clip_and_spectrogram": {"n_fft": HUGE}}, "n_fft .* must be a multiple of 4"),
        ({"view": "clip_and_log_mel", "clip_and_log_mel": {"frames": HUGE}}, "are more than .* pixels"),
        (
            {"view": "clip_and_log_mel", "clip_and_log_mel": {"window_seconds": 3600.0, "hop_seconds": 1e-4}},
            "larger than any sound",
        ),
        ({"view": "clip_and_log_mel", "clip_and_log_mel": {"sample_rate": HUGE}}, "sample_rate .* must be from"),
        ({"view": "clip_and_log_mel", "clip_and_log_mel": {"n_fft": HUGE}}, "n_fft .* must be even"),
    ],
)
def test_a_run_that_claims_any_size_is_refused_before_it_takes_memory(
    said: dict[str, Any], complaint: str, strange: Path
) -> None:
    claim(strange, **said)
    before = peak_bytes()

    with pytest.raises(KineticsSoundsError, match=complaint):
        load(strange)
    if not complaint.startswith("belongs to another model: its"):  # there is nothing to compare initial weights with
        with pytest.raises(KineticsSoundsError, match=complaint):
            load(strange, None)
    assert peak_bytes() - before < 300e6


def test_initial_weights_need_no_checkpoint(strange: Path) -> None:
    for path in (strange / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")

    assert load(strange, None).checkpoint is None
    with pytest.raises(RunError, match="cannot be read"):
        load(strange)


@pytest.mark.parametrize("width", [256, HUGE])
@pytest.mark.parametrize("probe", ["linear", "finetune", "cam"])
def test_no_command_makes_the_model_that_a_run_claims(
    probe: str, width: int, strange: Path, capsys: pytest.CaptureFixture[str], shards: Path
) -> None:
    claim(strange, r3d={"width": width})
    before = peak_bytes()

    assert evaluate.main([probe, f"--run={strange}", f"--shards={shards}", "--device=cpu"]) == 2
    assert re.search("belongs to another model|cannot build the model", capsys.readouterr().err)
    assert peak_bytes() - before < 300e6


def test_a_config_of_any_size_is_refused_before_it_takes_memory(
    small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(small(tmp_path / "run", f"--r3d.width={HUGE}")) == 2
    assert "ks-train: error: --r3d: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", {"classes": HUGE, "samples": 1}),
        ("data", {"classes": "two", "samples": 1}),
        ("data", {"classes": True, "samples": 1}),
        ("data", {"classes": 2, "samples": []}),
        ("data", {"classes": 2, "samples": -1}),
        ("data", {"classes": 2}),
        ("data", 3),
        ("shards", ["a"]),
        ("train_split", {"a": 1}),
        ("fingerprint", None),
        ("selection", ["a"]),
        ("content", None),
        ("recipe", 3),
        ("mel", [1]),
    ],
)
def test_facts_of_a_run_of_another_kind_are_refused(name: str, value: object, strange: Path, shards: Path) -> None:
    path = strange / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    with pytest.raises(KineticsSoundsError, match="is not a training run"):
        load(strange)
    assert evaluate.main(["crossmodal", f"--run={strange}", f"--shards={shards}"]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", "6"),
        ("step", -1),
        ("step", True),
        ("step", 1e300),
        ("step", None),
        ("of_steps", [1]),
        ("norm_samples", 0),
        ("norm_samples", "all"),
        ("window", 0),
        ("window", "all"),
        ("best", {"step": "../../x", "value": 1}),
        ("best", {"step": 2}),
        ("best", {"step": 2, "value": float("nan")}),
        ("best", [2]),
        ("plateau", {"cuts": "x"}),
        ("plateau", {"what": 1}),
        ("plateau", 3),
        ("scaler", {"scale": 1}),
        ("scaler", "x"),
    ],
)
def test_a_state_of_another_kind_is_refused_by_its_name(name: str, value: object, strange: Path) -> None:
    path = strange / "checkpoints" / "step-00000006" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    with pytest.raises(KineticsSoundsError, match=rf"state\.json: its {name} is .*delete that folder"):
        load(strange)


@pytest.mark.parametrize("side", [None, "36", 36.0, [36], True])
def test_a_set_that_does_not_say_its_frames_size_is_refused(
    side: object, shards: Path, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "set"))
    document = json.loads((copy / layout.DATASET).read_text())
    (copy / layout.DATASET).write_bytes(
        index.seal({**document, "frames": {} if side is None else {"short_side": side}})
    )

    assert pretrain.main([*small(tmp_path / "run"), f"--shards={copy}"]) == 2
    assert "does not say the frames' short_side" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    [
        {"n_fft": HUGE},
        {"bands": "256"},
        {"hop_length": 0},
        {"columns": 1.5},
        {"range_db": "80"},
        {"floor_db": [1]},
        {"stretch": 1},
        {"sample_rate": True},
    ],
)
def test_a_set_whose_mel_spectrograms_are_none_is_refused(said: dict[str, Any]) -> None:
    assert mel.of_set({"preset": "authors"}).hop_length == 512
    assert mel.of_set({"floor_db": None, "stretch": True, "bands": 64}).bands == 64
    with pytest.raises(MediaError, match=f"mel-spectrogram has {next(iter(said))}"):
        mel.of_set(said)


def test_an_outline_takes_no_memory_and_has_the_model_s_own_shapes(finished: Path) -> None:
    parsed, data = run_folder.model_of(finished), Data(**run_folder.read_facts(finished)["data"])
    outline, model = engine_build.build_meta(parsed, data), engine_build.build_model(parsed, data).method

    assert {name: value.shape for name, value in outline.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }
    assert {value.device.type for value in outline.state_dict().values()} == {"meta"}


@pytest.fixture
def asks_for_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone that asks a tensor for its numbers as it is made, as those do whose layers are dropped at growing rates."""
    build = r3d.build

    def made(settings: r3d.Settings) -> r3d.R3D:
        assert [rate.item() for rate in torch.linspace(0, 1, 3)] == [0, 0.5, 1]
        return build(settings)

    monkeypatch.setattr(r3d, "build", made)


@pytest.mark.usefixtures("asks_for_numbers")
def test_a_backbone_may_ask_for_numbers_as_it_is_made(finished: Path, strange: Path) -> None:
    assert load(finished).checkpoint is not None
    claim(strange, r3d={"width": 5})
    with pytest.raises(RunError, match="belongs to another model"):
        load(strange)
    claim(strange, r3d={"width": HUGE})
    with pytest.raises(RunError, match=r"config\.yaml describes an invalid model: --r3d: cannot build the model"):
        load(strange)


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_a_bug_of_a_backbone_is_no_setting_that_is_wrong(
    error: type[Exception], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: r3d.Settings) -> r3d.R3D:
        raise error("a bug")

    monkeypatch.setattr(r3d, "build", broken)
    with pytest.raises(error, match="a bug"):
        engine_build.build_model(run_folder.model_of(finished), Data(**run_folder.read_facts(finished)["data"]))
