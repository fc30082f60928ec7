"""The view of CrissCross and IICL, on frames whose number can be read off a pixel and sounds whose time is known."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kinetics_sounds import stream
from kinetics_sounds.address import Address
from kinetics_sounds.errors import SettingsError, ShardError
from kinetics_sounds.media.log_mel import log_mel
from kinetics_sounds.shards import layout, stats
from kinetics_sounds.shards.stats import Statistics
from kinetics_sounds.train.data.augment import cutout
from kinetics_sounds.train.data.views import clip_and_log_mel as view
from kinetics_sounds.train.data.views.clip_and_log_mel import Settings

RATE, FPS = 24_000, 24.0
CRISSCROSS = Settings(views=2, temporal="mild", audio_mean=(-5.3688107,), audio_std=(4.410007,))
IICL = Settings(
    frames=32,
    rate=30.0,
    crop=128,
    first="clip",
    n_fft=512,
    frame_seconds=0.025,
    hop_seconds=0.02,
    bands=40,
    epsilon=1e-6,
    audio_mean=(0.0,) * 40,
    audio_std=(1.0,) * 40,
)
TINY = Settings(
    crop=28,
    resize=32,
    video_augment="",
    audio_augment="",
    n_fft=256,
    frame_seconds=0.016,
    bands=12,
    audio_mean=(0.0,),
    audio_std=(1.0,),
)
MODES = ("none", "mild", "medium", "extreme", "mixed")


@dataclass(frozen=True)
class Clip:
    """A sample whose decoding is exact: 10 s of 24 frames a second, of which frame t is t everywhere."""

    length: int = 240
    seconds: float = 10.0
    side: int = 32
    asked: list[list[int]] = field(default_factory=list)

    @property
    def meta(self) -> stream.Meta:
        return stream.Meta(num_frames=self.length, fps=FPS, audio_samples=round(self.seconds * RATE))

    @property
    def sound(self) -> np.ndarray:
        return np.random.default_rng(0).normal(0, 0.1, round(self.seconds * RATE)).astype(np.float32)

    def frames(self, numbers: Sequence[int], *, decoder: str) -> np.ndarray:
        del decoder
        self.asked.append(list(numbers))
        shade = np.array(numbers, dtype=np.uint8)[:, None, None, None]
        return np.broadcast_to(shade, (len(numbers), self.side, self.side, 3)).copy()

    def waveform(self, *, first: int, count: int) -> np.ndarray:
        assert 0 <= first <= first + count <= round(self.seconds * RATE)
        return self.sound[first : first + count]

    def mel(self) -> np.ndarray:
        raise AssertionError("the stored mel-spectrogram is not asked for")


def train(clip: Any, seed: int, settings: Settings = TINY) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = view.train_view(clip, settings, np.random.default_rng(seed))
    return made


def image(sound: np.ndarray, settings: Settings = TINY) -> torch.Tensor:
    return torch.from_numpy(log_mel(sound, settings.log_mel)[:, : settings.columns])


def given(made: dict[str, torch.Tensor], settings: Settings) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = view.augment({name: each[None] for name, each in made.items()}, settings)
    return found


# --- Shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "views", "video", "audio"),
    [
        (CRISSCROSS, 2, (3, 8, 112, 112), (1, 1, 80, 200)),
        (dataclasses.replace(CRISSCROSS, end_column=True), 2, (3, 8, 112, 112), (1, 1, 80, 201)),
        (IICL, 1, (3, 32, 128, 128), (1, 1, 40, 100)),
    ],
)
def test_the_papers_shapes(settings: Settings, views: int, video: tuple[int, ...], audio: tuple[int, ...]) -> None:
    told = view.inputs(settings)

    assert (told.views, told.video, told.audio, told.audio_time_first) == (views, video, audio, False)
    assert set(told.parts) == {layout.AUDIO, layout.META}
    assert not told.reads_mel


@pytest.mark.parametrize(
    "augment", [("", ""), ("multi_scale_crop,flip,grey,cutout", "volume_jitter,spec_mask"), ("", "resize_crop")]
)
@pytest.mark.parametrize("temporal", MODES)
def test_arrays_are_what_is_told(temporal: Any, augment: tuple[str, str]) -> None:
    video, audio = augment
    settings = dataclasses.replace(
        TINY, views=2, temporal=temporal, video_augment=video, audio_augment=audio, audio_channels=3
    )
    clip = Clip()

    for made, clips in (
        (train(clip, 0, settings), None),
        (view.val_view(clip, settings), None),
        (view.eval_views(clip, settings, 3), 3),
    ):
        assert {name: (tuple(each.shape), each.dtype) for name, each in made.items()} == view.arrays(settings, clips)
        found = given(made, settings)
        for name, shape in (("video", view.inputs(settings).video), ("audio", view.inputs(settings).audio)):
            assert tuple(found[name].shape) == (1, clips or 2, *(shape or ()))
            assert found[name].dtype == torch.float32


# --- Where two views lie --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["sound", "clip"])
@pytest.mark.parametrize(
    ("temporal", "frames", "samples"),
    [
        ("none", 0, 0),
        ("mild", 6, RATE),  # half of 8 images at 16 a second are 6 of 24, half of 2 s are 1
        ("medium", 12, 2 * RATE),
        ("extreme", 120, 5 * RATE),
    ],
)
def test_two_views_are_as_far_apart_as_the_paper_says(first: Any, temporal: Any, frames: int, samples: int) -> None:
    settings = dataclasses.replace(TINY, views=2, temporal=temporal, first=first)
    generator = np.random.default_rng(0)
    for _ in range(200):
        one, other = view.placed(Clip().meta, settings, generator)
        assert [later - number for number, later in zip(one.frames, other.frames, strict=True)] == [frames] * 8
        assert (other.first - one.first, one.count, other.count) == (samples, 2 * RATE, 2 * RATE)
        assert [number - one.frames[0] for number in one.frames] == [0, 1, 3, 4, 6, 7, 9, 10]


def test_half_of_mild_views_is_the_same() -> None:
    """The last four images of the first are the first four of the second, and so is a second of sound."""
    made = train(Clip(), 3, dataclasses.replace(TINY, views=2, temporal="mild"))

    assert torch.equal(made["video"][0, 4:], made["video"][1, :4])
    torch.testing.assert_close(made["audio"][0, :, 102:198], made["audio"][1, :, 2:98], atol=2e-2, rtol=0)


@pytest.mark.parametrize("first", ["sound", "clip"])
@pytest.mark.parametrize("temporal", ["none", "mild", "medium", "extreme"])
def test_pictures_lie_anywhere_in_the_sound(first: Any, temporal: Any) -> None:
    """What both views see together within what they hear together; in halves of a track each within its own."""
    settings, generator = dataclasses.replace(TINY, views=2, temporal=temporal, first=first), np.random.default_rng(0)
    late = []
    for _ in range(2000):
        one, other = view.placed(Clip().meta, settings, generator)
        last, heard = (one, one) if temporal == "extreme" else (other, other)
        begin, end = one.frames[0] / FPS, last.frames[0] / FPS + 0.5
        sound_begin, sound_end = one.first / RATE, (heard.first + heard.count) / RATE
        assert sound_begin - 1e-9 <= begin < end <= sound_end + 1e-9
        late.append((begin - sound_begin) / (sound_end - sound_begin - (end - begin)))
    assert np.mean(late) == pytest.approx(0.5, abs=0.03)
    assert np.min(late) < 0.02
    assert np.max(late) > 0.98


@pytest.mark.parametrize("first", ["sound", "clip"])
def test_every_place_of_the_track_is_drawn(first: Any) -> None:
    """Two seconds of ten begin at 0 to 8."""
    settings, generator = dataclasses.replace(TINY, first=first), np.random.default_rng(0)
    firsts = np.array([view.placed(Clip().meta, settings, generator)[0].first for _ in range(2000)]) / RATE

    assert firsts.min() < 0.05
    assert firsts.max() > 7.95
    assert firsts.mean() == pytest.approx(4, abs=0.2)


def test_mixed_views_have_nothing_to_do_with_each_other() -> None:
    settings, generator = dataclasses.replace(TINY, views=2, temporal="mixed"), np.random.default_rng(0)
    pairs = [view.placed(Clip().meta, settings, generator) for _ in range(2000)]
    starts = np.array([[each.frames[0] for each in pair] for pair in pairs])

    assert abs(np.corrcoef(starts.T)[0, 1]) < 0.06
    assert {*np.sign(starts[:, 1] - starts[:, 0])} == {-1, 0, 1}


def test_iicls_clip_stays_inside_its_sound() -> None:
    """32 images at 30 a second are 1.07 s of the 2."""
    generator = np.random.default_rng(0)
    off = []
    for _ in range(1000):
        (one,) = view.placed(stream.Meta(num_frames=300, fps=30.0, audio_samples=10 * RATE), IICL, generator)
        begin, end = one.frames[0] / 30, (one.frames[-1] + 1) / 30
        assert one.first / RATE - 1e-4 <= begin < end <= one.first / RATE + 2 + 1e-4
        if 1 < begin < 8:
            off.append(one.first / RATE + 1 - (begin + end) / 2)
    assert np.mean(off) == pytest.approx(0, abs=0.05)
    assert np.max(np.abs(off)) > 0.42


@pytest.mark.parametrize("temporal", MODES)
@pytest.mark.parametrize(("length", "seconds"), [(1, 0.0), (5, 0.3), (13, 1.0), (20, 2.5), (30, 3.9)])
def test_of_a_short_sample_what_there_is_is_seen_and_heard(temporal: Any, length: int, seconds: float) -> None:
    """A clip begins again, a track has silence after it, and two views are its beginning and its end."""
    clip, settings = Clip(length, seconds), dataclasses.replace(TINY, views=2, temporal=temporal)
    made, (one, other) = train(clip, 1, settings), view.placed(clip.meta, settings, np.random.default_rng(1))
    heard = min(2 * RATE, round(seconds * RATE))

    assert (one.count, other.count) == (heard, heard)
    for each, video, audio in zip((one, other), made["video"], made["audio"], strict=True):
        assert video[:, 0, 0, 0].tolist() == list(each.frames)
        assert torch.equal(audio, image(clip.sound[each.first : each.first + heard]))
        assert all(0 <= number < length for number in each.frames)
    if temporal in ("medium", "extreme") and 12 < length < 24:  # eight of 24 a second span 12
        assert (one.frames[0], other.frames[0]) == (0, length - 12)
    if temporal == "extreme" and 2 < seconds < 4:
        assert (one.first, other.first) == (0, round(seconds * RATE) - heard)


# --- What is seen and heard -----------------------------------------------------------------------------------------


def test_a_frame_of_two_views_is_decoded_once() -> None:
    clip = Clip()
    train(clip, 0, dataclasses.replace(TINY, views=2, temporal="mild"))

    assert len(clip.asked) == 1
    assert len(clip.asked[0]) == len({*clip.asked[0]}) == 12


def test_an_evaluation_centres_the_sound_on_each_clip() -> None:
    """Of 240 frames the starts are 0, 114 and 228; half a second each, so their middles are 0.25, 5 and 9.75 s."""
    clip, settings = Clip(), TINY

    made = view.eval_views(clip, settings, 3)

    assert made["video"][:, 0, 0, 0, 0].tolist() == [0, 114, 228]
    for audio_FT, first in zip(made["audio"], (0, 4 * RATE, 8 * RATE), strict=True):
        assert torch.equal(audio_FT, image(clip.sound[first : first + 2 * RATE]))


def test_an_evaluation_crops_the_centre_of_frames_of_128() -> None:
    """112 of 128 is 28 of 32: rows 2 to 29."""
    clip = Clip(side=32)
    row = np.broadcast_to(np.arange(32, dtype=np.uint8)[None, :, None, None], (1, 32, 32, 3))
    object.__setattr__(clip, "frames", lambda numbers, decoder: row.repeat(len(numbers), axis=0))

    assert view.eval_views(clip, TINY, 1)["video"][0, 0, :, 0, 0].tolist() == list(range(2, 30))
    tops = {int(train(clip, seed)["video"][0, 0, 0, 0, 0]) for seed in range(60)}
    assert tops == {0, 1, 2, 3, 4}


def test_nothing_is_random_where_it_should_not_be() -> None:
    settings = dataclasses.replace(CRISSCROSS, crop=28, resize=32)
    first, again = (view.val_view(Clip(), settings) for _ in range(2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not first["draws"].any()
    assert torch.equal(first["audio"], view.eval_views(Clip(), settings, 2)["audio"])


def test_a_view_is_a_function_of_seed_epoch_and_key() -> None:
    settings = dataclasses.replace(CRISSCROSS, crop=28, resize=32, temporal="mixed")

    def made(seed: int, epoch: int, key: str) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = view.train_view(Clip(), settings, stream.rng(seed, epoch, key))
        return found

    first = made(0, 3, "a")
    assert all(torch.equal(first[name], each) for name, each in made(0, 3, "a").items())
    assert all(not torch.equal(each[0], each[1]) for each in first.values())
    for other in (made(1, 3, "a"), made(0, 4, "a"), made(0, 3, "b")):
        assert all(not torch.equal(first[name], each) for name, each in other.items())


# --- Augmentation ---------------------------------------------------------------------------------------------------


def test_the_volume_of_the_waveform_changes_by_at_most_a_fifth() -> None:
    """A factor of the amplitude is twice its logarithm in every band and column that is far above epsilon."""
    settings = dataclasses.replace(TINY, audio_augment="volume_jitter", epsilon=1e-20)
    plain = dataclasses.replace(TINY, epsilon=1e-20)
    gains = []
    for seed in range(40):
        (place,) = view.placed(Clip().meta, settings, np.random.default_rng(seed))
        louder = train(Clip(), seed, settings)["audio"][0] - image(Clip().sound[place.first :][: place.count], plain)
        assert louder.std() < 1e-4
        gains.append(float(torch.exp(louder.mean() / 2)))
    assert 0.8 <= min(gains) < 0.84
    assert 1.16 < max(gains) <= 1.2


def test_sounds_are_changed_once_they_are_standardised() -> None:
    """A mask over all bands and columns is the spectrogram's own mean; nothing is cut off at 0 or 1."""
    settings = dataclasses.replace(TINY, audio_augment="spec_mask", audio_mean=(-5.0,), audio_std=(2.0,))
    made = train(Clip(), 0, settings)
    made["draws"] = torch.tensor([[1.0, 12, 0, 0, 0, 0, 0, 0, 0]])
    standard = (made["audio"] + 5) / 2

    found = given(made, settings)["audio"].flatten()

    assert standard.min() < 0
    torch.testing.assert_close(found, standard.mean().expand_as(found), atol=1e-4, rtol=1e-4)
    made["draws"][:, 1] = 0
    torch.testing.assert_close(given(made, settings)["audio"].flatten(), standard.flatten(), atol=1e-4, rtol=1e-4)


def test_cutout_is_of_normalised_pixels_and_other_changes_come_before() -> None:
    """Wherever it stands in the list; its square becomes the mean of the normalised pixels."""
    settings = dataclasses.replace(TINY, video_augment="cutout,grey")
    made = train(Clip(), 0, settings)
    made["video"][..., 1] = 90
    made["draws"] = torch.tensor([[1.0, 1.0, 5.0, 0.0, 0.0]])  # grey, then cutout: five pixels in the first corner
    luma = (0.299 + 0.114) * made["video"][0, :, :, :, 0] / 255 + 0.587 * 90 / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised_CTHW = (luma - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)

    expected = cutout.apply(normalised_CTHW[None], torch.tensor([[5.0, 0.0, 0.0]]))[0]
    found = given(made, settings)["video"][0, 0]

    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[:, 0, 0, 0], normalised_CTHW.mean().expand(3), atol=1e-4, rtol=1e-4)


# --- Statistics -----------------------------------------------------------------------------------------------------


def test_each_band_is_standardised_by_its_own_numbers() -> None:
    mean, std = tuple(float(number) for number in range(12)), (2.0,) * 12
    settings = dataclasses.replace(TINY, audio_mean=mean, audio_std=std, audio_channels=3)
    audio = torch.tensor(mean)[:, None].expand(1, 1, 12, 200) + 4

    found = view.augment({"video": torch.zeros(1, 1, 8, 4, 4, 3), "audio": audio}, settings)["audio"]

    torch.testing.assert_close(found, torch.full((1, 1, 3, 1, 12, 200), 2.0), rtol=1e-5, atol=0)


def test_crisscrosss_numbers_are_the_same_for_all_bands() -> None:
    audio = torch.full((1, 2, 80, 200), -5.3688107 + 4.410007)

    found = view.augment({"video": torch.zeros(1, 2, 8, 4, 4, 3), "audio": audio}, CRISSCROSS)["audio"]

    torch.testing.assert_close(found, torch.ones(1, 2, 1, 1, 80, 200), rtol=1e-5, atol=0)


def test_without_statistics_nothing_is_standardised_wrongly() -> None:
    with pytest.raises(SettingsError, match=r"--clip_and_log_mel\.audio_mean and audio_std: are not set"):
        given(view.eval_views(Clip(), TINY, 1), dataclasses.replace(TINY, audio_mean=(), audio_std=()))


def test_the_sets_are_taken_or_those_of_the_run_that_goes_on(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, bands=3, audio_mean=(), audio_std=())
    entry = Statistics(
        split="train",
        fingerprint="of these",
        samples=3,
        windows=3,
        numbers=settings.log_mel,
        mean=(-1 / 3, -2.0, -3.0),
        std=(1.0, 2.0, 2 / 3),
        data_recipe="so packed",
    )
    facts = SimpleNamespace(fingerprint="of these")
    split: Any = SimpleNamespace(
        name="train", dataset=SimpleNamespace(every_split={"train": facts}, recipe="so packed")
    )
    place = Address(str(tmp_path))
    with pytest.raises(ShardError, match=r"compute them with: ks-shard stats .* --kind log_mel .*--bands 3"):
        view.complete(settings, place, split, {})
    stats.add(place, entry)

    made = view.complete(settings, place, split, {})
    assert (made.audio_mean, made.audio_std) == ((-0.333333, -2.0, -3.0), (1.0, 2.0, 0.666667))
    own = dataclasses.replace(settings, audio_mean=(7.0, 8.0, 9.0), audio_std=(2.0,))
    numbers = dataclasses.asdict(settings.log_mel)
    before = {**numbers, "audio_mean": [0.0, 1.0, 2.0], "audio_std": [1.0, 1.0, 1.0]}
    assert view.complete(settings, place, split, before).audio_mean == (0.0, 1.0, 2.0)
    assert view.complete(own, place, split, before) == view.complete(own, place, split, {}) == own
    for name, value in numbers.items():
        other = {**before, name: value + 1}
        assert view.complete(settings, place, split, other) == made
    with pytest.raises(ShardError, match="has no statistics"):
        view.complete(dataclasses.replace(settings, bands=4), place, split, before)


# --- Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("its", "complaint"),
    [
        ((127, layout.FRAMES, layout.AUDIO, layout.META), "short side of 127, the view needs 128: ks-shard"),
        ((128, layout.FRAMES, layout.META), "have no flac, .* ks-shard --audio flac$"),
    ],
)
def test_a_set_that_does_not_suit_is_refused(its: tuple[Any, ...], complaint: str) -> None:
    side, *parts = its
    with pytest.raises(ShardError, match=complaint):
        view.check(SimpleNamespace(modality="both", frames={"short_side": side}, parts=parts), CRISSCROSS)
    view.check(
        SimpleNamespace(modality="both", frames={"short_side": 128}, parts=(layout.FRAMES, layout.AUDIO, layout.META)),
        CRISSCROSS,
    )


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"frames": 0}, "must be at least 1"),
        ({"crop": 129}, "crop 129 at most resize 128"),
        ({"rate": float("nan")}, "rate nan"),
        ({"temporal": "mild", "views": 1}, "temporal mild says where 2 views lie, and there are to be 1"),
        ({"temporal": "extreme", "views": 3}, "there are to be 3"),
        ({"frames": 2**20}, "more than 268435456 pixels"),
        ({"n_fft": 512}, "frame_seconds 0.064"),
        ({"window_seconds": 1e9}, "window_seconds"),
        ({"video_augment": "spec_mask"}, "is an augmentation of audio"),
        ({"audio_augment": "grey"}, "is an augmentation of video"),
        ({"audio_augment": "spec_mask,volume_jitter"}, "volume_jitter must come first"),
        ({"audio_mean": (1.0,) * 79, "audio_std": (1.0,)}, "one for each of 80, not 79 and 1"),
        ({"audio_mean": (1.0,), "audio_std": (-1.0,)}, "audio_std at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Settings(**said)
