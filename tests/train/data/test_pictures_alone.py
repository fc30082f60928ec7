"""Views of pictures alone: the same clips, no sound, and no set refused for the lack of it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinetics_sounds import stream
from kinetics_sounds.address import Address
from kinetics_sounds.errors import ShardError
from kinetics_sounds.shards import layout
from kinetics_sounds.train.data.views import clip_and_log_mel, clip_and_mel, clip_and_spectrogram

CHANGES = "multi_scale_crop,flip,colour_jitter"
VIEWS: dict[str, tuple[Any, Any]] = {
    "clip_and_mel": (
        clip_and_mel,
        clip_and_mel.Settings(
            frames=4, resize_height=36, resize_width=36, crop=32, mel_resize=12, mel_crop=8, video_augment=CHANGES
        ),
    ),
    "clip_and_spectrogram": (
        clip_and_spectrogram,
        clip_and_spectrogram.Settings(frames=4, crop=28, audio_mean=(0.0,), audio_std=(1.0,), video_augment=CHANGES),
    ),
    "clip_and_log_mel": (
        clip_and_log_mel,
        clip_and_log_mel.Settings(
            frames=4, resize=36, crop=32, audio_mean=(0.0,), audio_std=(1.0,), video_augment=CHANGES
        ),
    ),
}


@pytest.mark.parametrize("name", VIEWS)
class TestEvery:
    def test_gives_the_clips_of_the_whole_view_and_no_sound(self, name: str, sounding: Path) -> None:
        view, both = VIEWS[name]
        alone = dataclasses.replace(both, modality="video")
        with stream.sample(stream.open_split(sounding, "train"), 1) as sample:
            whole, part = (view.eval_views(sample, each, 3) for each in (both, alone))

        assert part.keys() == {"video"}
        assert torch.equal(part["video"], whole["video"])
        assert view.inputs(alone).audio is None
        assert view.inputs(alone).video == view.inputs(both).video
        assert not view.inputs(alone).reads_mel
        arrays = {each: value[None] for each, value in part.items()}
        made = view.augment(arrays, alone)
        assert made.keys() == {"video"}
        assert made["video"].shape == (1, 3, *view.inputs(alone).video)

    def test_its_training_and_validation_views_are_as_it_tells(self, name: str, sounding: Path) -> None:
        view, both = VIEWS[name]
        alone = dataclasses.replace(both, modality="video")
        with stream.sample(stream.open_split(sounding, "train"), 1) as sample:
            for made in (view.train_view(sample, alone, np.random.default_rng(0)), view.val_view(sample, alone)):
                assert {each: (tuple(value.shape), value.dtype) for each, value in made.items()} == view.arrays(alone)
                batch = view.augment({each: value[None] for each, value in made.items()}, alone)
                assert batch.keys() == {"video"}
                assert batch["video"].isfinite().all()

    def test_a_set_without_sound_suits_it_and_one_without_pictures_does_not(self, name: str, sounding: Path) -> None:
        view, both = VIEWS[name]
        alone = dataclasses.replace(both, modality="video")
        whole = stream.open_split(sounding, "train").dataset
        pictures = dataclasses.replace(whole, parts=(layout.META, layout.FRAMES), mel={}, audio={})
        sounds = dataclasses.replace(whole, parts=(layout.META, layout.MEL, layout.AUDIO), frames={})

        view.check(pictures, alone)
        view.check(whole, alone)
        with pytest.raises(ShardError, match=r"have no sound, and the view needs picture and sound$"):
            view.check(pictures, both)
        with pytest.raises(ShardError, match=r"have no picture, and the view needs the picture$"):
            view.check(sounds, alone)


@pytest.mark.parametrize("name", ["clip_and_spectrogram", "clip_and_log_mel"])
def test_it_needs_no_statistics_of_sounds(name: str, sounding: Path) -> None:
    view, both = VIEWS[name]
    alone = dataclasses.replace(both, modality="video", audio_mean=(), audio_std=())

    assert view.complete(alone, Address(str(sounding)), stream.open_split(sounding, "train"), {}) == alone
