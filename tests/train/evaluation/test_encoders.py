"""`kinetics_sounds.train.load`: a run's encoders with their preprocessing, from a sample or from arrays of one's own."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kinetics_sounds import stream, train
from kinetics_sounds.errors import RunError, ShardError
from kinetics_sounds.media import mel
from kinetics_sounds.shards import layout
from kinetics_sounds.train import RawClip
from kinetics_sounds.train.evaluation.encoders import selected_checkpoint
from kinetics_sounds.train.evaluation.frozen import EvalSettings

from .conftest import write_folds


def raw(**more: Any) -> RawClip:
    rng = np.random.default_rng(0)
    return RawClip(**{"frames_THWC": rng.integers(0, 256, (20, 36, 48, 3), dtype=np.uint8), "fps": 25.0, **more})


def test_three_lines_lead_from_a_sample_to_its_features(finished: Path, shards: Path) -> None:
    encoders = train.load(finished)
    with stream.sample(stream.open_split(shards, "test"), 0) as sample:
        video_D, audio_D = encoders.features(sample)

    assert video_D.shape == audio_D.shape == (16,)
    assert video_D.abs().max() > 0
    assert not video_D.requires_grad


def test_of_pictures_alone_the_video_encoder_s_features_are_had_as_the_message_says(
    finished: Path, folded: Path, films: dict[int, bytes], tmp_path: Path
) -> None:
    encoders, alone = train.load(finished), write_folds(tmp_path / "shards", films, pictures=True)
    with stream.sample(stream.open_split(folded, "fold1_test"), 0) as sample:
        video_D, _ = encoders.features(sample)
    with stream.sample(stream.open_split(alone, "fold1_test"), 0) as sample:
        with pytest.raises(ShardError) as told:
            encoders.features(sample)
        found_D = encoders.video(encoders.preprocess(sample, clips=10)["video"]).mean(dim=0)

    code = 'encoders.video(encoders.preprocess(sample, clips=10)["video"]).mean(dim=0)'
    assert str(told.value).endswith(f": its set has no sound; for features of its pictures: {code}")
    assert torch.equal(found_D, video_D)


def test_of_sounds_alone_the_message_names_the_command(finished: Path, shards: Path) -> None:
    split = stream.open_split(shards, "test")
    sounds = dataclasses.replace(split.dataset, parts=(layout.META, layout.MEL), frames={})
    told = "has no pictures; to evaluate the audio encoder on sounds: ks-eval sounds"
    with stream.sample(dataclasses.replace(split, dataset=sounds), 0) as sample, pytest.raises(ShardError, match=told):
        train.load(finished).features(sample)


def test_weights_are_those_of_the_checkpoint_and_the_model_is_in_evaluation_mode(finished: Path) -> None:
    encoders = train.load(str(finished), "step-00000004")

    saved = load_file(finished / "checkpoints" / "step-00000004" / "model.safetensors")
    assert encoders.checkpoint == finished / "checkpoints" / "step-00000004"
    assert torch.equal(encoders.video.conv1[0].weight, saved["video.conv1.0.weight"])
    assert not any(module.training for module in encoders.method.modules())


def test_a_run_that_is_not_finished_is_noted_where_its_weights_are_evaluated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = Path(__file__).parents[1] / "config/runs_0_1_0"
    for checkpoint in ("last", "step-00000003"):
        assert selected_checkpoint(EvalSettings(run=runs / "stopped", checkpoint=checkpoint)) == checkpoint
        told = "note: the run is not finished: its last checkpoint is of step 7 of 10\n"
        assert capsys.readouterr().err.endswith(told)

    selected_checkpoint(EvalSettings(run=runs / "stopped", untrained=True))
    selected_checkpoint(EvalSettings(run=runs / "avcl"))
    assert "not finished" not in capsys.readouterr().err


def test_a_checkpoints_own_folder_says_the_same_as_its_run_and_name(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished / "checkpoints" / "step-00000006"
    monkeypatch.chdir(path.parent)

    named, own, last = train.load(path), train.load(path.name), train.load(finished)

    assert own.checkpoint == Path(path.name)
    for one in (own, named):
        assert all(
            torch.equal(value, one.method.state_dict()[name]) for name, value in last.method.state_dict().items()
        )


def test_a_checkpoints_own_folder_is_no_other_checkpoint(finished: Path) -> None:
    path = finished / "checkpoints" / "step-00000006"

    first = train.load(path, None)

    assert first.checkpoint is None
    assert torch.equal(first.video.conv1[0].weight, train.load(finished, None).video.conv1[0].weight)
    with pytest.raises(RunError, match="is a checkpoint; to select 'step-00000004', give"):
        train.load(path, "step-00000004")


def test_no_checkpoint_is_the_initial_weights_and_draws_nothing_from_the_users_randomness(finished: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)

    first, last = train.load(finished, None), train.load(finished)

    assert torch.equal(torch.rand(3), expected)
    assert first.checkpoint is None
    assert not torch.equal(first.video.conv1[0].weight, last.video.conv1[0].weight)


def test_what_the_encoders_take_is_what_the_view_says(finished: Path, shards: Path) -> None:
    encoders = train.load(finished)
    with stream.sample(stream.open_split(shards, "test"), 1) as sample:
        inputs = encoders.preprocess(sample, clips=3)
        views = encoders.view.eval_views(sample, encoders.view_settings, 3)

    assert inputs["video"].shape == (3, 3, 8, 32, 32)
    assert inputs["audio"].shape == (1, 1, 1, 56, 56)
    assert torch.equal(inputs["audio"][0, 0, 0], views["audio"][0])


def test_frames_and_a_waveform_of_ones_own_are_rendered_as_the_shards_are(finished: Path) -> None:
    encoders = train.load(finished)
    waveform = np.sin(np.arange(24_000, dtype=np.float32) / 3)

    mel_FT = encoders.mel_image(waveform)
    video_D, audio_D = encoders.features(raw(mel_FT=mel_FT))

    assert encoders.mel == mel.PRESETS["paper"]
    assert np.array_equal(mel_FT, mel.mel_image(waveform, mel.Mel()).astype(np.float16))
    assert video_D.shape == audio_D.shape == (16,)


def test_the_same_clip_has_the_same_features_from_the_shards_and_as_arrays(finished: Path, shards: Path) -> None:
    encoders = train.load(finished)
    with stream.sample(stream.open_split(shards, "test"), 2) as sample:
        stored = encoders.features(sample)
        frames_THWC = sample.frames(range(sample.meta.num_frames))
        own = encoders.features(RawClip(frames_THWC=frames_THWC, fps=sample.meta.fps, mel_FT=sample.mel()))

    assert torch.equal(stored[0], own[0])
    assert torch.equal(stored[1], own[1])


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"frames_THWC": np.zeros((4, 8, 8, 3))}, r"frames must be uint8 \(T, H, W, 3\), got float64"),
        ({"frames_THWC": np.zeros((0, 8, 8, 3), np.uint8)}, r"frames must be uint8 \(T, H, W, 3\)"),
        ({"fps": 0.0}, r"fps 0.0 must be more than 0"),
        ({"mel_FT": np.zeros(3)}, r"must be \(F, T\), got \(3,\)"),
        (
            {"mel_FT": np.full((2, 2), np.nan)},
            r"the mel-spectrogram must be in \[0, 1\], as Encoders.mel_image makes it",
        ),
        ({"mel_FT": np.full((2, 2), -80.0)}, r"the mel-spectrogram must be in \[0, 1\]"),
        ({"sound": np.full(2, np.inf)}, r"the sound must be finite"),
        ({"sound": np.full(2, 3000.0)}, r"in \[-1, 1\]: divide 16-bit samples by 32768"),
        ({"sound": np.full(2, 3000, np.int16)}, r"mono and float32 \(samples,\), got int16"),
        ({"sound": np.zeros((2, 5), np.float32)}, r"mono and float32 \(samples,\), got float32 \(2, 5\)"),
        ({"sound": np.zeros(0, np.float32)}, r"mono and float32 \(samples,\), got float32 \(0,\)"),
    ],
)
def test_arrays_of_another_shape_or_range_are_refused(more: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        raw(**more)


@pytest.mark.parametrize(
    ("waveform", "complaint"),
    [
        (
            np.zeros((2, 5), np.float32),
            r"mono and float32 \(samples,\), got float32 \(2, 5\): of several channels, give the",
        ),
        (np.zeros(0, np.float32), r"got float32 \(0,\)"),
        (np.zeros(5, np.int16), r"got int16 \(5,\)"),
        (np.full(5, np.nan, np.float32), r"must be finite"),
    ],
)
def test_no_mel_is_made_of_what_is_no_waveform(waveform: np.ndarray, complaint: str, finished: Path) -> None:
    with pytest.raises(ValueError, match=complaint):
        train.load(finished).mel_image(waveform)


@pytest.mark.parametrize(
    ("ask", "remedy"),
    [
        (lambda clip: clip.mel(), r"give mel_FT="),
        (lambda clip: clip.waveform(), r"give sound="),
        (lambda clip: clip.dataset, r"give of=encoders.dataset"),
    ],
)
def test_a_part_that_was_not_given_is_asked_for(ask: Callable[[RawClip], object], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        ask(raw())


def test_a_window_of_the_sound_is_cut() -> None:
    clip = raw(sound=np.arange(10, dtype=np.float32) / 16)

    assert (16 * clip.waveform(first=3, count=4)).tolist() == [3, 4, 5, 6]
    assert clip.meta.audio_samples == 10


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"^{tmp_path}: is not a training run .*give the --out of a ks-train"):
        train.load(tmp_path)


@pytest.mark.parametrize("place", ["avcl", "avcl/seed-0/run"])
def test_of_a_folder_of_runs_or_a_comparison_the_runs_are_named(tmp_path: Path, place: str) -> None:
    for name in (place, place.replace("avcl", "avid")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")

    told = f"{tmp_path}: is a folder of training runs; give one of them: {tmp_path / place}, "
    with pytest.raises(RunError, match=f"^{re.escape(told)}.*avid"):
        train.load(tmp_path)


def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(finished: Path) -> None:
    with pytest.raises(RunError, match=r"has no checkpoint 'first'; there are: step-00000004, step-00000006"):
        train.load(finished, "first")


def test_a_checkpoint_outside_of_a_run_is_refused(finished: Path, tmp_path: Path) -> None:
    lost = tmp_path / "a" / "b"
    lost.mkdir(parents=True)
    (lost / "state.json").write_bytes((finished / "checkpoints" / "step-00000006" / "state.json").read_bytes())

    with pytest.raises(RunError, match=rf"^{tmp_path}: is not a training run"):
        train.load(lost)


def test_shards_that_are_gone_hinder_only_who_asks_for_them(finished: Path, tmp_path: Path) -> None:
    gone = tmp_path / "run"
    (gone / "checkpoints").mkdir(parents=True)
    (gone / "checkpoints" / "step-00000006").symlink_to(finished / "checkpoints" / "step-00000006")
    (gone / "config.yaml").write_bytes((finished / "config.yaml").read_bytes())
    told = (finished / "run.json").read_text()
    place = train.load(finished).shards
    (gone / "run.json").write_text(told.replace(place, "/nowhere"))

    encoders = train.load(gone)

    assert encoders.features(raw(mel_FT=np.zeros((256, 256), np.float16)))[0].shape == (16,)
    assert encoders.mel == train.load(finished).mel
    with pytest.raises(ShardError, match="/nowhere: has no shard set"):
        _ = encoders.dataset


def test_importing_the_trainer_does_not_import_torch() -> None:
    code = "import sys, kinetics_sounds.train as train; print(train.load.__name__, 'torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "load False\n"


def test_the_package_offers_raw_clip_without_importing_torch_before() -> None:
    code = "import sys, kinetics_sounds.train as t; print('torch' in sys.modules, t.RawClip.__name__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "RawClip", "True"]
    with pytest.raises(AttributeError, match="has no attribute 'Raw'"):
        getattr(train, "Raw")  # noqa: B009 - the name that mypy would refuse
