"""AVID's view, mostly on frames whose number can be read off a pixel and sounds whose time can be read off a column."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kinetics_sounds import sampling, stream
from kinetics_sounds.address import Address
from kinetics_sounds.errors import SettingsError, ShardError
from kinetics_sounds.media.spectrogram import Spectrogram, log_spectrogram
from kinetics_sounds.shards import layout, stats
from kinetics_sounds.shards.stats import Statistics
from kinetics_sounds.train.data.views import clip_and_spectrogram as view
from kinetics_sounds.train.data.views.clip_and_spectrogram import Settings

RATE = 24_000
FPS = 25.0
PAPER = Settings(audio_mean=(0.0,), audio_std=(1.0,))
SMALL_STUDY = dataclasses.replace(PAPER, frames=16, crop=112, n_fft=512, hop_seconds=0.02)
TINY = Settings(
    crop=28, video_augment="flip", n_fft=64, volume_jitter=0.0, audio_mean=(0.0,), audio_std=(1.0,)
)  # frames of 32 x 32


def numbered(length: int, side: int = 32) -> np.ndarray:
    """Frame t is t everywhere."""
    return np.broadcast_to(np.arange(length, dtype=np.uint8)[:, None, None, None], (length, side, side, 3)).copy()


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


@dataclass(frozen=True)
class Clip:
    """A sample whose decoding is exact."""

    frames_THWC: np.ndarray = field(default_factory=lambda: numbered(250))
    sound: np.ndarray = field(default_factory=lambda: noise(10))

    @property
    def meta(self) -> stream.Meta:
        return stream.Meta(num_frames=len(self.frames_THWC), fps=FPS, audio_samples=len(self.sound))

    def frames(self, numbers: Sequence[int], *, decoder: str) -> np.ndarray:
        del decoder
        return self.frames_THWC[list(numbers)]

    def waveform(self, *, first: int, count: int) -> np.ndarray:
        assert 0 <= first <= first + count <= len(self.sound)
        return self.sound[first : first + count]

    def mel(self) -> np.ndarray:
        raise AssertionError("the stored mel-spectrogram is not asked for")


def train(clip: Any, seed: int | np.random.Generator, settings: Settings = TINY) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = view.train_view(clip, settings, np.random.default_rng(seed))
    return made


def image(sound: np.ndarray, settings: Settings = TINY) -> torch.Tensor:
    return torch.from_numpy(log_spectrogram(sound, settings.spectrogram))


# --- Shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "video", "audio"),
    [
        (Settings(), (3, 8, 224, 224), (1, 1, 200, 257)),
        (SMALL_STUDY, (3, 16, 112, 112), (1, 1, 100, 129)),
        (dataclasses.replace(PAPER, audio_channels=3), (3, 8, 224, 224), (3, 1, 200, 257)),
    ],
)
def test_the_papers_shapes(settings: Settings, video: tuple[int, ...], audio: tuple[int, ...]) -> None:
    told = view.inputs(settings)

    assert (told.views, told.video, told.audio, told.audio_time_first) == (1, video, audio, True)
    assert set(told.parts) == {layout.AUDIO, layout.META}
    assert not told.reads_mel


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("augment", ["multi_scale_crop,flip,colour_jitter", "flip", "", "multi_scale_crop,grey"])
def test_arrays_are_what_is_told(views: int, augment: str) -> None:
    settings = dataclasses.replace(TINY, views=views, video_augment=augment, audio_channels=3)
    clip = Clip()

    for made, clips in (
        (train(clip, 0, settings), None),
        (view.val_view(clip, settings), None),
        (view.eval_views(clip, settings, 3), 3),
    ):
        told = view.arrays(settings, clips)
        assert {name: (tuple(each.shape), each.dtype) for name, each in made.items()} == told
        given = view.augment({name: each[None] for name, each in made.items()}, settings)
        for name, shape in (("video", view.inputs(settings).video), ("audio", view.inputs(settings).audio)):
            assert tuple(given[name].shape) == (1, clips or views, *(shape or ()))
            assert given[name].dtype == torch.float32


# --- Where picture and sound lie ------------------------------------------------------------------------------------


def offsets(settings: Settings, clip: Clip, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds from the clip's middle to the sound's, and the clip's middles."""
    generator = np.random.default_rng(0)
    off, middles = [], []
    step = sampling.step_of(FPS, settings.rate)
    for _ in range(draws):
        start, first, count = view.placed(clip, settings, generator)
        middle = sum(sampling.span(start, settings.frames, fps=FPS, step=step)) / 2
        off.append(first / RATE + count / RATE / 2 - middle)
        middles.append(middle)
    return np.array(off), np.array(middles)


MINUTE = Clip(frames_THWC=np.zeros((1500, 1, 1, 3), dtype=np.uint8), sound=np.zeros(60 * RATE, dtype=np.float32))
SAMPLE = 1 / RATE


def test_the_papers_offset_is_uniform_within_half_a_second() -> None:
    off, middles = offsets(TINY, MINUTE, 6000)
    off = off[(middles > 1.5) & (middles < 58.5)]

    assert np.abs(off).max() <= 0.5 + SAMPLE
    assert np.abs(off).max() > 0.495
    assert off.std() == pytest.approx(1 / np.sqrt(12), rel=0.03)  # 0.29
    assert abs(off.mean()) < 0.015


def test_the_codes_offset_is_uniform_within_a_second_and_a_quarter() -> None:
    off, _ = offsets(dataclasses.replace(TINY, offset="code"), MINUTE, 6000)

    assert np.abs(off).max() <= 1.25 + SAMPLE  # (2 + 2 * 0.5 - 0.5) / 2, wherever the clip lies
    assert np.abs(off).max() > 1.2
    assert off.std() == pytest.approx(2.5 / np.sqrt(12), rel=0.03)  # 0.72
    assert abs(off.mean()) < 0.04


def test_at_the_ends_the_paper_has_the_nearest_sound() -> None:
    """A clip that begins with the track lies within its first window, whatever is drawn."""
    off, middles = offsets(TINY, Clip(sound=np.zeros(10 * RATE, dtype=np.float32)), 3000)
    edge = middles < 0.5

    assert edge.any()
    np.testing.assert_allclose(off[edge], 1 - middles[edge], atol=SAMPLE)


@pytest.mark.parametrize("offset", ["paper", "code"])
@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0, 2.0])
def test_a_track_that_is_not_longer_than_the_window_is_heard_whole_with_silence_after_it(
    offset: Any, seconds: float
) -> None:
    clip = Clip(frames_THWC=numbered(30), sound=noise(seconds))
    settings = dataclasses.replace(TINY, offset=offset)
    whole = image(np.concatenate([clip.sound, np.zeros(2 * RATE - len(clip.sound), dtype=np.float32)]))

    for made in (train(clip, 1, settings), view.eval_views(clip, settings, 1), view.val_view(clip, settings)):
        assert torch.equal(made["audio"][0], whole)


@pytest.mark.parametrize("length", [1, 3, 12, 13])
def test_a_clip_that_is_too_short_begins_again(length: int) -> None:
    """16 a second of 25 are the frames 0, 1, 3, 4, 6, 7, 9 and 10 after the start."""
    made = view.eval_views(Clip(frames_THWC=numbered(length)), TINY, 1)

    assert made["video"][0, :, 0, 0, 0].tolist() == [number % length for number in (0, 1, 3, 4, 6, 7, 9, 10)]


@pytest.mark.parametrize("offset", ["paper", "code"])
def test_a_flash_and_its_click_stay_together(offset: Any) -> None:
    """Frame 50 of 25 a second and sample 48,000 of 24,000 are 2 s: each is found where the draws say."""
    frames_THWC, click = np.zeros((100, 32, 32, 3), dtype=np.uint8), np.zeros(4 * RATE, dtype=np.float32)
    frames_THWC[50], click[2 * RATE] = 255, 1
    clip, settings = Clip(frames_THWC, click), dataclasses.replace(TINY, offset=offset, n_fft=1024)
    seen = heard = 0
    for seed in range(60):
        start, first, count = view.placed(clip, settings, np.random.default_rng(seed))
        made = train(clip, seed, settings)
        flashes = made["video"][0, :, 0, 0, 0].nonzero()[:, 0].tolist()
        assert flashes == [place for place in range(8) if start + int(place * 25 / 16) == 50]
        loudness_T = made["audio"][0].mean(dim=1)
        if first + 240 <= 2 * RATE < first + count - 240:
            assert int(loudness_T.argmax()) == round((2 * RATE - first) / 240)
            heard += 1
        seen += bool(flashes)
    assert seen
    assert heard


def test_an_evaluation_centres_the_sound_on_each_clip() -> None:
    """Of 250 frames the starts are 0, 118 and 237; half a second each, so their middles are 0.25, 4.97 and 9.73 s."""
    clip = Clip()

    made = view.eval_views(clip, TINY, 3)

    assert made["video"][:, 0, 0, 0, 0].tolist() == [0, 118, 237]
    firsts = (0, round(3.97 * RATE), 8 * RATE)  # the first and the last would begin before and end after the track
    for audio_TF, first in zip(made["audio"], firsts, strict=True):
        assert torch.equal(audio_TF, image(clip.sound[first : first + 2 * RATE]))
    alone = view.eval_views(clip, TINY, 1)
    assert torch.equal(alone["audio"][0], made["audio"][1])
    assert torch.equal(alone["video"][0], made["video"][1])


def test_nothing_is_random_where_it_should_not_be() -> None:
    settings = dataclasses.replace(
        TINY, views=2, video_augment="multi_scale_crop,flip,colour_jitter", volume_jitter=0.5
    )
    clip = Clip()

    first, again = (view.val_view(clip, settings) for _ in range(2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not first["draws"].any()
    assert torch.equal(first["audio"], view.eval_views(clip, settings, 2)["audio"])


# --- Randomness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", ["paper", "code"])
def test_a_view_is_a_function_of_seed_epoch_and_key(offset: Any) -> None:
    settings = dataclasses.replace(PAPER, crop=28, offset=offset)
    clip = Clip()

    def made(seed: int, epoch: int, key: str) -> dict[str, torch.Tensor]:
        return train(clip, stream.rng(seed, epoch, key), settings)

    first = made(0, 3, "a")
    assert all(torch.equal(first[name], each) for name, each in made(0, 3, "a").items())
    for other in (made(1, 3, "a"), made(0, 4, "a"), made(0, 3, "b")):
        assert not torch.equal(first["video"], other["video"])
        assert not torch.equal(first["audio"], other["audio"])
        assert not torch.equal(first["draws"], other["draws"])


def test_views_of_a_sample_differ() -> None:
    made = train(Clip(), 0, dataclasses.replace(PAPER, crop=28, views=2))

    assert all(not torch.equal(each[0], each[1]) for each in made.values())


def test_the_volume_changes_by_at_most_a_tenth() -> None:
    """A factor of the amplitude is as many decibels in every column and bin."""
    clip = Clip()
    louder = [
        train(clip, seed, dataclasses.replace(TINY, volume_jitter=0.1))["audio"] - train(clip, seed)["audio"]
        for seed in range(40)
    ]
    gains = 10 ** (torch.stack([each.mean() for each in louder]) / 20)

    assert max(float(each.std()) for each in louder) < 1e-4
    assert 0.9 <= gains.min() < 0.92
    assert 1.08 < gains.max() <= 1.1


def test_the_crop_is_at_least_as_large_as_it_should_be() -> None:
    """With the whole area only what does not fit is lost: of a frame 32 wide no square of less than 24."""
    row = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None], (32, 32))
    clip = Clip(frames_THWC=np.broadcast_to(row[None, :, :, None], (20, 32, 32, 3)).copy())
    settings = dataclasses.replace(TINY, video_augment="multi_scale_crop", min_area=1.0)

    for seed in range(20):
        column_H = train(clip, seed, settings)["video"][0, 0, :, 0, 0].float()
        assert column_H.max() - column_H.min() >= 24


def test_without_multi_scale_crop_a_square_of_an_evaluations_size_lies_anywhere() -> None:
    """224 of 256 is 28 of 32: rows begin with 0 to 4."""
    row = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None], (32, 32))
    clip = Clip(frames_THWC=np.broadcast_to(row[None, :, :, None], (20, 32, 32, 3)).copy())

    tops = {int(train(clip, seed)["video"][0, 0, 0, 0, 0]) for seed in range(60)}

    assert tops == {0, 1, 2, 3, 4}
    assert view.eval_views(clip, TINY, 1)["video"][0, 0, :, 0, 0].tolist() == list(range(2, 30))


# --- On the device --------------------------------------------------------------------------------------------------


def test_pixels_are_normalised_by_imagenet() -> None:
    video = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1, 1, 1).expand(1, 1, 2, 4, 4, 3)

    given = view.augment({"video": video, "audio": torch.zeros(1, 1, 200, 17)}, TINY)["video"]

    assert given[0, 0, :, 0, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert given[0, 0, :, 1, 0, 0].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])


def test_each_bin_is_standardised_by_its_own_numbers() -> None:
    mean, std = tuple(float(number) for number in range(17)), (2.0,) * 16 + (0.0,)
    settings = dataclasses.replace(TINY, audio_mean=mean, audio_std=std)
    audio = torch.tensor(mean).expand(1, 1, 200, 17) + 4

    given = view.augment({"video": torch.zeros(1, 1, 8, 4, 4, 3), "audio": audio}, settings)["audio"]

    assert given.shape == (1, 1, 1, 1, 200, 17)
    torch.testing.assert_close(given[..., :16], torch.full_like(given[..., :16], 4 / (2 + 1e-5)))
    torch.testing.assert_close(given[..., 16], torch.full_like(given[..., 16], 4e5))


def test_one_number_is_for_all_bins_and_channels_are_alike() -> None:
    settings = dataclasses.replace(TINY, audio_mean=(-30.0,), audio_std=(15.0,), audio_channels=3)

    given = view.augment({"video": torch.zeros(1, 2, 8, 4, 4, 3), "audio": torch.zeros(1, 2, 200, 17)}, settings)

    torch.testing.assert_close(given["audio"], torch.full((1, 2, 3, 1, 200, 17), 30 / (15 + 1e-5)))


def test_colours_change_by_the_draws_before_pixels_are_normalised() -> None:
    settings = dataclasses.replace(TINY, video_augment="grey")
    video = torch.zeros(1, 1, 8, 4, 4, 3, dtype=torch.uint8)
    video[..., 1] = 100

    given = view.augment({"video": video, "audio": torch.zeros(1, 1, 200, 17), "draws": torch.ones(1, 1, 1)}, settings)[
        "video"
    ][0, 0, :, 0, 0, 0]

    back = given * torch.tensor([0.229, 0.224, 0.225]) + torch.tensor([0.485, 0.456, 0.406])
    torch.testing.assert_close(back, torch.full((3,), 0.587 * 100 / 255), atol=1e-4, rtol=0)


def test_without_statistics_nothing_is_standardised_wrongly() -> None:
    settings = dataclasses.replace(TINY, audio_mean=(), audio_std=())

    with pytest.raises(SettingsError, match="audio_mean and audio_std: are not set; give them, or let ks-train take"):
        view.augment({"video": torch.zeros(1, 1, 8, 4, 4, 3), "audio": torch.zeros(1, 1, 200, 17)}, settings)


# --- Statistics of the set ------------------------------------------------------------------------------------------

NUMBERS = Spectrogram(n_fft=8, hop_seconds=0.1)
FROM_SET = dataclasses.replace(TINY, n_fft=8, hop_seconds=0.1, audio_mean=(), audio_std=())


def split(fingerprint: str = "of these") -> Any:
    facts = SimpleNamespace(fingerprint=fingerprint)
    return SimpleNamespace(name="train", dataset=SimpleNamespace(every_split={"train": facts}, recipe="so packed"))


@pytest.fixture
def place(tmp_path: Path) -> Address:
    """A set's folder with statistics of three bins."""
    stats.add(
        Address(str(tmp_path)),
        Statistics(
            split="train",
            fingerprint="of these",
            samples=3,
            windows=3,
            numbers=NUMBERS,
            mean=(-1 / 3, -100.0, -1234567.8),
            std=(2 / 3, 0.0, 1e-9),
            data_recipe="so packed",
        ),
    )
    return Address(str(tmp_path))


def test_they_are_taken_from_the_set_with_six_digits(place: Address) -> None:
    made = view.complete(FROM_SET, place, split(), {})

    assert made.audio_mean == (-0.333333, -100.0, -1234570.0)
    assert made.audio_std == (0.666667, 0.0, 1e-9)
    assert dataclasses.replace(made, audio_mean=(), audio_std=()) == FROM_SET


def test_those_that_are_given_are_kept(place: Address) -> None:
    given = dataclasses.replace(FROM_SET, audio_mean=(-30.0,), audio_std=(10.0,))

    assert view.complete(given, place, split("of others"), {}) == given


def test_a_run_that_goes_on_keeps_its_own(place: Address, tmp_path: Path) -> None:
    before = {**dataclasses.asdict(NUMBERS), "audio_mean": [-1.0, -2.0, -3.0], "audio_std": [1.0, 1.0, 1.0]}

    for fingerprint in ("of these", "of others"):
        assert view.complete(FROM_SET, place, split(fingerprint), before).audio_mean == (-1.0, -2.0, -3.0)
    (tmp_path / layout.STATS).unlink()
    assert view.complete(FROM_SET, place, split(), before).audio_std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("change", [{"window_seconds": 1.0}, {"n_fft": 12}, {"hop_seconds": 0.2}])
def test_a_run_that_goes_on_with_other_spectrograms_takes_the_sets(place: Address, change: dict[str, Any]) -> None:
    """--resume anyway: numbers of other spectrograms are not theirs, however many bins these have."""
    before = {**dataclasses.asdict(NUMBERS), **change, "audio_mean": [-1.0] * 3, "audio_std": [1.0] * 3}

    assert view.complete(FROM_SET, place, split(), before).audio_mean == (-0.333333, -100.0, -1234570.0)


def test_a_run_from_before_there_were_such_takes_the_sets(place: Address) -> None:
    before = {**dataclasses.asdict(NUMBERS), "audio_mean": [], "audio_std": []}

    assert view.complete(FROM_SET, place, split(), before).audio_mean[1] == -100


@pytest.mark.parametrize(
    ("change", "fingerprint", "complaint"),
    [
        ({"n_fft": 12}, "of these", "has no statistics of train for log spectrograms of .*n_fft 12"),
        ({"hop_seconds": 0.2}, "of these", "has no statistics"),
        ({"window_seconds": 1.0}, "of these", "has no statistics"),
        ({}, "of others", "belong to other clips"),
    ],
)
def test_those_of_other_settings_or_clips_are_refused(
    place: Address, change: dict[str, Any], fingerprint: str, complaint: str
) -> None:
    with pytest.raises(ShardError, match=f"{complaint}.*; compute them with: ks-shard stats .* --split train"):
        view.complete(dataclasses.replace(FROM_SET, **change), place, split(fingerprint), {})


# --- Refusals -------------------------------------------------------------------------------------------------------


def dataset(side: Any = 256, *parts: str) -> Any:
    return SimpleNamespace(
        modality="both", frames={"short_side": side}, parts=parts or (layout.FRAMES, layout.AUDIO, layout.META)
    )


@pytest.mark.parametrize(
    ("its", "complaint"),
    [
        (dataset(128), "short side of 128, the view needs 256: ks-shard --short_side 256$"),
        (dataset(128, layout.FRAMES, layout.META), "ks-shard --short_side 256 --audio flac$"),
        (dataset(256, layout.FRAMES, layout.META), "have no flac, .* ks-shard --audio flac$"),
        (dataset(256, layout.AUDIO, layout.META), "have no mp4"),
        (dataset("a"), "does not say the frames' short_side"),
    ],
)
def test_a_set_that_does_not_suit_is_told_the_options_that_it_lacks(its: Any, complaint: str) -> None:
    with pytest.raises(ShardError, match=complaint):
        view.check(its, PAPER)


def test_a_set_that_suits_is_taken() -> None:
    view.check(dataset(256), PAPER)
    view.check(dataset(128), SMALL_STUDY)
    view.check(dataset(256, layout.JPEGS, layout.AUDIO, layout.META), PAPER)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"frames": 0}, "must be at least 1"),
        ({"views": 0}, "must be at least 1"),
        ({"crop": 0}, "must be at least 1"),
        ({"rate": 0.0}, "rate 0.0 must be more than 0"),
        ({"rate": float("nan")}, "rate nan"),
        ({"min_area": 0.0}, "min_area 0.0 must be"),
        ({"volume_jitter": 1.0}, "volume_jitter 1.0 less than 1"),
        ({"crop": 2**20}, "more than 268435456 pixels"),
        ({"frames": 2**20}, "more than 268435456 pixels"),
        ({"n_fft": 1000_001}, "n_fft"),
        ({"window_seconds": 1e9}, "window_seconds"),
        ({"hop_seconds": -1.0}, "hop_seconds"),
        ({"video_augment": "spec_mask"}, "is an augmentation of audio"),
        ({"video_augment": "sparkle"}, "sparkle"),
        ({"audio_mean": (1.0,), "audio_std": ()}, "one number for all bins, or one for each of 257, not 1 and 0"),
        ({"audio_mean": (), "audio_std": (1.0,)}, "not 0 and 1"),
        ({"audio_mean": (1.0,) * 256, "audio_std": (1.0,)}, "not 256 and 1"),
        ({"audio_mean": (float("inf"),), "audio_std": (1.0,)}, "audio_mean must be finite"),
        ({"audio_mean": (1.0,), "audio_std": (-1.0,)}, "audio_std at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Settings(**said)
