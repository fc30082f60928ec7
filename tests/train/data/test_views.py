"""What the encoders see of a clip, mostly on frames whose number or place can be read off a pixel."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kinetics_sounds import stream
from kinetics_sounds.errors import ShardError
from kinetics_sounds.media.mel import PRESETS, Mel, mel_image
from kinetics_sounds.shards import layout
from kinetics_sounds.stream import Split
from kinetics_sounds.train.data.colormap import magma
from kinetics_sounds.train.data.views import clip_and_mel
from kinetics_sounds.train.data.views.clip_and_mel import Settings

Frames = npt.NDArray[np.uint8]

SMALL = Settings(frames=4, resize_height=12, resize_width=12, crop=8, mel_resize=12, mel_crop=8)


@dataclass(frozen=True)
class Exact:
    """A sample whose decoding is exact: frames (T, H, W, 3) and a mel (F, T)."""

    frames_THWC: Frames
    mel_FT: npt.NDArray[Any] = field(default_factory=lambda: np.full((12, 12), 0.5))

    @property
    def meta(self) -> stream.Meta:
        return stream.Meta(num_frames=len(self.frames_THWC), fps=10.0, audio_samples=0)

    def frames(self, numbers: Sequence[int], *, decoder: str) -> Frames:
        del decoder
        return self.frames_THWC[list(numbers)]

    def mel(self) -> npt.NDArray[np.float16]:
        return self.mel_FT.astype(np.float16)


def numbered(length: int, side: int = 12) -> Frames:
    """Frame t is t everywhere."""
    return np.broadcast_to(np.arange(length, dtype=np.uint8)[:, None, None, None], (length, side, side, 3)).copy()


def placed(length: int, side: int = 12) -> Frames:
    """Red is a pixel's row and green its column, in every frame."""
    row, column = np.indices((side, side), dtype=np.uint8)
    return np.broadcast_to(np.stack([row, column, 0 * row], axis=-1), (length, side, side, 3)).copy()


@dataclass(frozen=True)
class Sounding(Exact):
    """An exact sample with a sound, in a set whose mel-spectrograms are made with the numbers `told`."""

    frames_THWC: Frames = field(default_factory=lambda: numbered(4))
    sound_S: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    told: dict[str, Any] = field(default_factory=lambda: {"preset": "paper"})

    @property
    def meta(self) -> stream.Meta:
        return stream.Meta(num_frames=len(self.frames_THWC), fps=10.0, audio_samples=len(self.sound_S))

    @property
    def dataset(self) -> SimpleNamespace:
        return SimpleNamespace(mel=self.told)

    def waveform(self, *, first: int, count: int) -> npt.NDArray[np.float32]:
        assert 0 <= first <= first + count <= len(self.sound_S)
        return self.sound_S[first : first + count]

    def mel(self) -> npt.NDArray[np.float16]:
        raise AssertionError("the stored mel-spectrogram is not asked for")


def train(sample: Any, seed: int, settings: Settings = SMALL) -> dict[str, torch.Tensor]:
    """The one view that is made."""
    made: dict[str, torch.Tensor] = clip_and_mel.train_view(sample, settings, np.random.default_rng(seed))
    assert {len(each) for each in made.values()} == {1}
    return {name: each[0] for name, each in made.items()}


def sound_heard(sample: Any, settings: Settings, clips: int = 1) -> torch.Tensor:
    """The one sound that an evaluation hears."""
    audio: torch.Tensor = clip_and_mel.eval_views(sample, settings, clips)["audio"]
    assert len(audio) == 1
    return audio[0]


class TestTrainView:
    @pytest.mark.parametrize(("length", "starts"), [(4, {0}), (5, {0, 1}), (9, {0, 1, 2, 3, 4, 5})])
    def test_every_start_is_reached_and_none_beyond_the_end(self, length: int, starts: set[int]) -> None:
        sample = Exact(numbered(length))

        clips = [train(sample, seed)["video"][:, 0, 0, 0].tolist() for seed in range(150)]

        assert {clip[0] for clip in clips} == starts
        assert all(clip == list(range(clip[0], clip[0] + 4)) for clip in clips)

    def test_starts_are_equally_frequent(self) -> None:
        sample = Exact(numbered(7))

        starts = [int(train(sample, seed)["video"][0, 0, 0, 0]) for seed in range(1000)]

        assert all(200 < starts.count(start) < 300 for start in range(4))

    def test_a_clip_that_is_too_short_begins_again(self) -> None:
        settings = dataclasses.replace(SMALL, frames=16)

        assert train(Exact(numbered(6)), 0, settings)["video"][:, 0, 0, 0].tolist() == [
            *(0, 1, 2, 3, 4, 5),
            *(0, 1, 2, 3, 4, 5),
            *(0, 1, 2, 3),
        ]
        assert train(Exact(numbered(1)), 0, settings)["video"].max() == 0

    def test_a_still_clip_stays_still(self) -> None:
        image_HWC = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        sample = Exact(np.repeat(image_HWC[None], 9, axis=0))

        clips = [train(sample, seed)["video"] for seed in range(20)]

        for clip_THWC in clips:
            assert torch.equal(clip_THWC, clip_THWC[:1].expand_as(clip_THWC))
        assert any(not torch.equal(clips[0], other) for other in clips)

    def test_the_crop_is_one_square_and_every_place_is_reached(self) -> None:
        sample = Exact(placed(4))
        corners = set()
        for seed in range(300):
            video_THWC = train(sample, seed)["video"]
            top, left, _ = video_THWC[0, 0, 0].tolist()
            corners.add((top, left))
            assert torch.equal(video_THWC[2], torch.from_numpy(placed(1)[0, top : top + 8, left : left + 8]))

        assert corners == {(top, left) for top in range(5) for left in range(5)}

    def test_the_mels_crop_is_a_square_of_its_own(self) -> None:
        mel_FT = np.arange(144).reshape(12, 12) / 256
        sample = Exact(placed(4), mel_FT)
        views = [train(sample, seed) for seed in range(100)]

        for view in views:
            top, left = divmod(round(float(view["audio"][0, 0]) * 256), 12)
            assert torch.equal(view["audio"].double(), torch.from_numpy(mel_FT[top : top + 8, left : left + 8]))
        assert len({(float(view["audio"][0, 0]), tuple(view["video"][0, 0, 0].tolist())) for view in views}) > 80

    def test_the_same_randomness_gives_the_same_view(self, split: Split) -> None:
        settings = Settings(resize_height=36, resize_width=36, crop=32)
        with stream.sample(split, 3) as sample:
            first, again, other = (train(sample, seed, settings) for seed in (1, 1, 2))

        assert all(torch.equal(first[name], again[name]) for name in ("video", "audio"))
        assert all(not torch.equal(first[name], other[name]) for name in ("video", "audio"))

    def test_shapes_types_and_ranges_of_a_stored_sample(self, split: Split) -> None:
        settings = Settings(resize_height=30, resize_width=34, crop=28, mel_resize=64, mel_crop=56)

        with stream.sample(split, 0) as sample:
            view = train(sample, 0, settings)

        assert (view["video"].shape, view["video"].dtype) == ((16, 28, 28, 3), torch.uint8)
        assert (view["audio"].shape, view["audio"].dtype) == ((56, 56), torch.float32)
        assert view["video"].is_contiguous()
        assert view["audio"].is_contiguous()
        assert -1e-6 < view["audio"].min() < view["audio"].max() < 1 + 1e-6

    @pytest.mark.parametrize("decoder", ["decord", "torchcodec", "pyav"])
    def test_stored_frames_are_found_at_their_place(self, decoder: str, split: Split) -> None:
        settings = Settings(resize_height=36, resize_width=36, crop=36, decoder=decoder)
        with stream.sample(split, 2) as sample:
            whole_THWC = torch.from_numpy(sample.frames(range(33), decoder="pyav"))
            views = [train(sample, seed, settings)["video"] for seed in range(5)]

        for video_THWC in views:
            assert any(torch.equal(video_THWC, whole_THWC[start : start + 16]) for start in range(18))

    def test_starts_of_groups_are_reached_and_no_others(self) -> None:
        settings = dataclasses.replace(SMALL, start="gop")
        starts = {int(train(Exact(numbered(60)), seed, settings)["video"][0, 0, 0, 0]) for seed in range(100)}

        assert starts == {0, 16, 32, 48}  # the last start from which four frames fit is 56

    @pytest.mark.parametrize(("rate", "step"), [(5.0, 2), (2.5, 4), (20.0, 0.5)])
    def test_frames_at_a_rate_are_those_shown_at_its_moments(self, rate: float, step: float) -> None:
        """Of ten stored frames a second."""
        settings = dataclasses.replace(SMALL, rate=rate)

        for seed in range(20):
            start, *rest = train(Exact(numbered(40)), seed, settings)["video"][:, 0, 0, 0].tolist()
            assert rest == [start + int(place * step) for place in (1, 2, 3)]

    def test_a_rate_holds_in_tests_too(self) -> None:
        settings = dataclasses.replace(SMALL, rate=5.0)

        video = clip_and_mel.eval_views(Exact(numbered(20)), settings, 3)["video"]

        assert video[:, :, 0, 0, 0].tolist() == [[0, 2, 4, 6], [6, 8, 10, 12], [12, 14, 16, 18]]


class TestEvalViews:
    @pytest.mark.parametrize(
        ("length", "clips", "starts"),
        [
            (20, 1, [8]),
            (13, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            (20, 3, [0, 8, 16]),
            (21, 3, [0, 8, 17]),
            (4, 1, [0]),
            (5, 3, [0, 0, 1]),
        ],
    )
    def test_clips_are_evenly_spaced_from_the_first_frame_to_the_last(
        self, length: int, clips: int, starts: list[int]
    ) -> None:
        video = clip_and_mel.eval_views(Exact(numbered(length)), SMALL, clips)["video"]

        assert video[:, :, 0, 0, 0].tolist() == [[start, start + 1, start + 2, start + 3] for start in starts]

    @given(length=st.integers(16, 300), clips=st.integers(2, 12))
    def test_centres_are_those_of_the_protocol(self, length: int, clips: int) -> None:
        """Methods 6.2: start = int(centre - L/2) of centres at linspace(L/2, T - L/2, n)."""
        settings = dataclasses.replace(SMALL, frames=16, resize_height=1, resize_width=1, crop=1)
        number_T = np.arange(length)[:, None, None, None]  # a frame's red and green tell its number
        sample = Exact(np.concatenate([number_T // 256, number_T % 256, 0 * number_T], axis=-1).astype(np.uint8))

        video = clip_and_mel.eval_views(sample, settings, clips)["video"][:, 0, 0, 0].int()

        centres = np.linspace(8, length - 8, clips)
        assert (256 * video[:, 0] + video[:, 1]).tolist() == [int(centre - 8 + 1e-9) for centre in centres]

    def test_a_clip_that_is_too_short_begins_again(self) -> None:
        video = clip_and_mel.eval_views(Exact(numbered(3)), SMALL, 2)["video"]

        assert video[:, :, 0, 0, 0].tolist() == [[0, 1, 2, 0], [0, 1, 2, 0]]

    def test_the_crop_is_the_middle(self) -> None:
        mel_FT = np.arange(144).reshape(12, 12) / 256

        view = clip_and_mel.eval_views(Exact(placed(4), mel_FT), SMALL, 2)

        assert torch.equal(view["video"][1, 3], torch.from_numpy(placed(1)[0, 2:10, 2:10]))
        assert torch.equal(view["audio"][0].double(), torch.from_numpy(mel_FT[2:10, 2:10]))

    def test_shapes_of_a_stored_sample_and_that_nothing_is_random(self, split: Split) -> None:
        settings = Settings(resize_height=36, resize_width=36, crop=32)
        with stream.sample(split, 1) as sample:
            first, again = (clip_and_mel.eval_views(sample, settings, 10) for _ in range(2))

        assert (first["video"].shape, first["video"].dtype) == ((10, 16, 32, 32, 3), torch.uint8)
        assert (first["audio"].shape, first["audio"].dtype) == ((1, 112, 112), torch.float32)
        assert all(torch.equal(first[name], again[name]) for name in first)

    def test_ten_clips_are_the_same_as_each_alone(self, split: Split) -> None:
        with stream.sample(split, 3) as sample:
            whole_THWC = torch.from_numpy(sample.frames(range(40)))
            video = clip_and_mel.eval_views(sample, Settings(resize_height=36, resize_width=36, crop=32), 10)["video"]

        for place, clip_THWC in enumerate(video):
            start = 24 * place // 9
            assert torch.equal(clip_THWC, whole_THWC[start : start + 16, 2:34, 2:34])


TWO = dataclasses.replace(SMALL, views=2)


class TestSeveralViews:
    def test_the_first_view_is_the_one_that_a_single_view_is_and_the_second_is_the_next(self) -> None:
        """Both are drawn from one generator, one after the other."""
        sample = Exact(placed(9), np.arange(144).reshape(12, 12) / 256)

        both = clip_and_mel.train_view(sample, TWO, np.random.default_rng(5))

        rng = np.random.default_rng(5)
        for view in range(2):
            one = clip_and_mel.train_view(sample, SMALL, rng)
            assert torch.equal(both["video"][view], one["video"][0])
            assert torch.equal(both["audio"][view], one["audio"][0])
        assert not torch.equal(both["video"][0], both["video"][1])
        assert not torch.equal(both["audio"][0], both["audio"][1])

    def test_in_validation_they_are_evenly_spaced_clips_and_twice_the_same_sound(self) -> None:
        sample = Exact(numbered(20), np.arange(144).reshape(12, 12) / 256)

        first, again = (clip_and_mel.val_view(sample, TWO) for _ in range(2))

        assert first["video"][:, :, 0, 0, 0].tolist() == [[0, 1, 2, 3], [16, 17, 18, 19]]
        assert torch.equal(first["audio"], sound_heard(sample, SMALL).expand(2, 8, 8))
        assert all(torch.equal(first[name], again[name]) for name in first)

    def test_one_view_of_a_validation_is_the_middle(self) -> None:
        made = clip_and_mel.val_view(Exact(numbered(20)), SMALL)

        assert made["video"][:, :, 0, 0, 0].tolist() == [[8, 9, 10, 11]]
        assert made["audio"].shape == (1, 8, 8)

    @pytest.mark.parametrize("audio", ["mel", "waveform"])
    def test_shapes_are_those_that_are_told(self, audio: Any) -> None:
        settings = dataclasses.replace(TWO, audio=audio)
        sample = (Sounding if audio == "waveform" else Exact)(numbered(9))

        made = [
            clip_and_mel.train_view(sample, settings, np.random.default_rng(0)),
            clip_and_mel.val_view(sample, settings),
        ]

        for views in made:
            found = {name: (tuple(view.shape), view.dtype) for name, view in views.items()}
            assert found == clip_and_mel.arrays(settings)
        assert clip_and_mel.arrays(settings, 3)["video"][0] == (3, 4, 8, 8, 3)
        assert clip_and_mel.arrays(settings, 3)["audio"][0][0] == 1

    @pytest.mark.parametrize("change", [{}, {"subtract_clip_mean": True}, {"audio_colours": "magma"}])
    def test_on_the_device_each_view_is_as_it_would_be_alone_and_of_the_shape_that_is_told(
        self, change: dict[str, Any]
    ) -> None:
        settings = dataclasses.replace(TWO, **change)
        made = clip_and_mel.train_view(Exact(placed(9)), settings, np.random.default_rng(0))
        arrays = {name: torch.stack([each, each.flip(0)]) for name, each in made.items()}  # 2 samples of 2 views

        sides = clip_and_mel.augment(arrays, settings)

        told = clip_and_mel.inputs(settings)
        assert told.views == 2
        assert (sides["video"].shape[2:], sides["audio"].shape[2:]) == (told.video, told.audio)
        for view in range(2):
            alone = augmented({name: each[:, view] for name, each in arrays.items()}, settings)
            assert all(torch.equal(sides[name][:, view], alone[name]) for name in alone)

    def test_the_parts_that_are_read_are_told(self) -> None:
        assert clip_and_mel.inputs(TWO).parts == (layout.MEL, layout.META)
        assert clip_and_mel.inputs(dataclasses.replace(TWO, audio="waveform")).parts == (layout.AUDIO, layout.META)

    def test_mel_spectrograms_are_read_but_for_a_waveform(self) -> None:
        """Those of a window are made with the set's numbers."""
        kinds = ("mel", "mel_window", "waveform")
        told = [clip_and_mel.inputs(dataclasses.replace(TWO, audio=kind)).reads_mel for kind in kinds]
        assert told == [True, True, False]


WAVEFORM = dataclasses.replace(SMALL, audio="waveform", mel_crop=2)
"""Sixteen images of 2 x 2: a window of 64 samples."""


class TestWaveform:
    def test_a_window_fills_sixteen_images_row_by_row(self) -> None:
        sample = Sounding(sound_S=np.arange(64, dtype=np.float32))

        audio_THW = train(sample, 0, WAVEFORM)["audio"]

        assert audio_THW.shape == (16, 2, 2)
        assert audio_THW.flatten().tolist() == list(range(64))

    def test_the_papers_window_has_200_704_samples(self) -> None:
        (shape, kind) = clip_and_mel.arrays(Settings(audio="waveform"))["audio"]

        assert (shape, kind) == ((1, 16, 112, 112), torch.float32)
        assert np.prod(shape) == 200_704

    def test_every_start_is_reached_and_none_beyond_the_end(self) -> None:
        sample = Sounding(sound_S=np.arange(67, dtype=np.float32))

        windows = [train(sample, seed, WAVEFORM)["audio"].flatten().tolist() for seed in range(60)]

        assert {window[0] for window in windows} == {0, 1, 2, 3}
        assert all(window == [window[0] + place for place in range(64)] for window in windows)

    @pytest.mark.parametrize("clips", [1, 3])
    def test_in_tests_the_window_is_the_middle_of_the_track(self, clips: int) -> None:
        sample = Sounding(sound_S=np.arange(70, dtype=np.float32))

        audio_THW = sound_heard(sample, WAVEFORM, clips)

        assert audio_THW.flatten().tolist() == list(range(3, 67))

    @pytest.mark.parametrize("length", [0, 1, 62, 63])
    def test_a_short_track_stands_whole_in_the_middle_of_silence(self, length: int) -> None:
        sample = Sounding(sound_S=np.full(length, 0.5, dtype=np.float32))

        audio = train(sample, 0, WAVEFORM)["audio"].flatten()

        assert torch.equal(audio, sound_heard(sample, WAVEFORM).flatten())
        before = (64 - length + 1) // 2
        assert audio.tolist() == [0.0] * before + [0.5] * length + [0.0] * (64 - length - before)

    def test_it_is_the_same_in_every_channel_and_keeps_its_sign(self) -> None:
        audio_BTHW = torch.linspace(-1, 1, 2 * 64).view(2, 16, 2, 2)

        audio_BCTHW = augmented({**BATCH, "audio": audio_BTHW}, WAVEFORM)["audio"]

        assert audio_BCTHW.shape == (2, 3, 16, 2, 2)
        assert all(torch.equal(audio_BCTHW[:, channel], audio_BTHW) for channel in range(3))

    def test_a_single_step_takes_one_image(self) -> None:
        settings = dataclasses.replace(WAVEFORM, audio_layout="single")

        assert clip_and_mel.arrays(settings)["audio"][0] == (1, 1, 2, 2)
        assert train(Sounding(sound_S=np.arange(4, dtype=np.float32)), 0, settings)["audio"].tolist() == [
            [[0, 1], [2, 3]]
        ]


WINDOW = dataclasses.replace(SMALL, audio="mel_window", window_seconds=0.1, mel_resize=256, mel_crop=256)
"""2,400 samples, whole."""


class TestMelWindow:
    @pytest.mark.parametrize("preset", ["paper", "authors"])
    def test_a_window_in_the_middle_has_the_image_that_the_set_would_have_made_of_it(self, preset: str) -> None:
        sound = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
        told = dataclasses.asdict(PRESETS[preset]) | {"preset": preset}

        audio_FT = sound_heard(Sounding(sound_S=sound, told=told), WINDOW)

        image_FT = torch.from_numpy(mel_image(sound[10_800:13_200], PRESETS[preset]))
        torch.testing.assert_close(audio_FT, image_FT, rtol=0, atol=1e-6)

    def test_the_sets_own_numbers_beat_its_presets(self) -> None:
        sound = np.random.default_rng(0).normal(0, 0.1, 2_400).astype(np.float32)

        audio_FT = sound_heard(Sounding(sound_S=sound, told={"preset": "paper", "range_db": 40.0}), WINDOW)

        assert torch.equal(audio_FT, torch.from_numpy(mel_image(sound, Mel(range_db=40.0))))

    def test_in_training_it_is_anywhere(self) -> None:
        """A click that only some windows hold."""
        sound = np.zeros(24_000, dtype=np.float32)
        sound[5_000] = 1
        heard = [bool(train(Sounding(sound_S=sound), seed, WINDOW)["audio"].any()) for seed in range(60)]

        assert 0 < sum(heard) < 20  # one in nine

    def test_the_papers_is_1_2_seconds(self) -> None:
        sound = np.zeros(60_000, dtype=np.float32)
        settings = dataclasses.replace(WINDOW, window_seconds=Settings().window_seconds)
        heard = []
        for click in (15_000, 15_700, 44_200, 44_900):  # 28,800 samples in the middle: 15,600 to 44,400
            sound[:] = 0
            sound[click] = 1
            heard.append(bool(sound_heard(Sounding(sound_S=sound), settings).any()))

        assert heard == [False, True, True, False]

    def test_a_track_without_a_sample_is_silence(self) -> None:
        audio_FT = sound_heard(Sounding(), WINDOW)

        assert (audio_FT.shape, int(audio_FT.count_nonzero())) == ((256, 256), 0)

    def test_it_is_cropped_like_the_whole_ones_image(self) -> None:
        sound = np.random.default_rng(0).normal(0, 0.1, 2_400).astype(np.float32)
        settings = dataclasses.replace(WINDOW, mel_crop=250)
        whole_FT = sound_heard(Sounding(sound_S=sound), WINDOW)

        assert torch.equal(sound_heard(Sounding(sound_S=sound), settings), whole_FT[3:253, 3:253])
        assert clip_and_mel.arrays(settings)["audio"] == ((1, 250, 250), torch.float32)


@pytest.mark.parametrize("audio", ["mel_window", "waveform"])
@pytest.mark.parametrize("number", [0, 3])
def test_a_stored_sound_is_read_and_the_stored_mel_is_not(audio: Any, number: int, sounding: Path) -> None:
    """2,000 samples are less than a window of mel_window, 5,000 are more."""
    settings = dataclasses.replace(WINDOW, audio=audio, resize_height=36, resize_width=36, mel_crop=16)
    split = stream.open_split(sounding, "train")
    clip_and_mel.check(split.dataset, settings)

    with stream.sample(split, number) as sample:
        tested, trained = clip_and_mel.eval_views(sample, settings, 2), train(sample, 0, settings)
        exact = Sounding(sample.frames(range(sample.meta.num_frames)), sound_S=sample.waveform())

    assert len(exact.sound_S) == 2_000 + 1_000 * number
    one = {name: view[None] for name, view in trained.items()}
    for views, clips in ((tested, 2), (one, None)):
        shapes = {name: (tuple(view.shape), view.dtype) for name, view in views.items()}
        assert shapes == clip_and_mel.arrays(settings, clips)
    assert torch.equal(tested["audio"], clip_and_mel.eval_views(exact, settings, 2)["audio"])
    assert torch.equal(trained["audio"], train(exact, 0, settings)["audio"])


class TestResize:
    def test_height_and_width_are_not_swapped(self) -> None:
        """White on the left half only, before and after."""
        frames = np.zeros((4, 128, 172, 3), dtype=np.uint8)
        frames[:, :, :86] = 255
        settings = Settings(frames=4, resize_height=128, resize_width=171, crop=112)

        video = clip_and_mel.eval_views(Exact(frames), settings, 1)["video"][0, 0, :, :, 0]

        assert video.shape == (112, 112)
        assert (video[:, :55] == 255).all()
        assert (video[:, 57:] == 0).all()

    @pytest.mark.parametrize(("height", "width"), [(128, 171), (36, 36), (200, 300)])
    def test_a_frame_is_resized_as_pillow_does(self, height: int, width: int) -> None:
        """Antialiased, within one level of 256: a still clip of any size looks like its picture."""
        rng = np.random.default_rng(0)
        image_HWC = rng.integers(0, 256, (16, 22, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)[:, :172]
        side = min(height, width)
        settings = Settings(frames=1, resize_height=height, resize_width=width, crop=side)

        video = clip_and_mel.eval_views(Exact(image_HWC[None]), settings, 1)["video"][0, 0]

        left = (width - side) // 2
        pillow_HWC = np.asarray(Image.fromarray(image_HWC).resize((width, height), Image.Resampling.BILINEAR))
        difference = np.abs(video.numpy().astype(int) - pillow_HWC[:, left : left + side].astype(int))
        assert difference.max() <= 1

    def test_low_bands_stay_first_and_early_columns_left(self) -> None:
        mel_FT = np.zeros((256, 256))
        mel_FT[:128, :64] = 1  # low bands in the first quarter of the time
        settings = Settings(frames=4, resize_height=12, resize_width=12, crop=8, mel_resize=128, mel_crop=128)

        audio_FT = sound_heard(Exact(numbered(4), mel_FT), settings)

        assert (audio_FT[:63, :31] == 1).all()
        assert (audio_FT[65:] == 0).all()
        assert (audio_FT[:, 33:] == 0).all()

    def test_halving_the_mel_keeps_its_mean_and_its_range(self) -> None:
        mel_FT = np.random.default_rng(0).integers(0, 2, (256, 256)).astype(float)
        settings = Settings(frames=4, resize_height=12, resize_width=12, crop=8, mel_resize=128, mel_crop=128)

        audio_FT = sound_heard(Exact(numbered(4), mel_FT), settings)

        assert float(audio_FT.mean()) == pytest.approx(mel_FT.mean(), abs=0.01)
        assert -1e-6 < audio_FT.min() < audio_FT.max() < 1 + 1e-6
        assert audio_FT.std() < 0.25  # of single pixels: 0.5, so four and more are averaged


BATCH = {
    "video": torch.arange(2 * 4 * 2 * 2 * 3, dtype=torch.uint8).reshape(2, 4, 2, 2, 3),
    "audio": torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0)),
}
"""Two samples of four frames of 2 x 2 pixels and a mel of 5 x 5."""


def augmented(arrays: dict[str, torch.Tensor], settings: Settings) -> dict[str, torch.Tensor]:
    """What the encoders take of samples of one view."""
    made = clip_and_mel.augment({name: each[:, None] for name, each in arrays.items()}, settings)
    assert {each.shape[1] for each in made.values()} == {1}
    return {name: each[:, 0] for name, each in made.items()}


class TestAugment:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(("audio_layout", "steps"), [("repeat16", 16), ("single", 1)])
    @pytest.mark.parametrize("frames", [1, 4])
    def test_the_mel_is_the_same_in_every_channel_and_step(
        self, channels: int, audio_layout: str, steps: int, frames: int
    ) -> None:
        settings = dataclasses.replace(SMALL, audio_layout=audio_layout, audio_channels=channels, frames=frames)

        audio_BCTHW = augmented(BATCH, settings)["audio"]

        assert audio_BCTHW.shape == (2, channels, steps, 5, 5)
        for channel in range(channels):
            for step in range(steps):
                assert torch.equal(audio_BCTHW[:, channel, step], BATCH["audio"])

    def test_colours_are_magma_with_low_bands_at_the_bottom(self) -> None:
        settings = dataclasses.replace(SMALL, audio_colours="magma")

        audio_BCTHW = augmented(BATCH, settings)["audio"]

        assert audio_BCTHW.shape == (2, 3, 16, 5, 5)
        assert torch.equal(audio_BCTHW[:, :, 2], magma(BATCH["audio"].flip(1)))

    def test_pixels_become_shares_of_255_with_channels_first(self) -> None:
        video_BCTHW = augmented(BATCH, SMALL)["video"]

        assert (video_BCTHW.shape, video_BCTHW.dtype) == ((2, 3, 4, 2, 2), torch.float32)
        assert video_BCTHW[1, 2, 3, 0, 1] == BATCH["video"][1, 3, 0, 1, 2] / 255

    def test_black_is_0_and_white_is_1(self) -> None:
        video = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 2, 1, 1, 1).expand(1, 2, 1, 1, 3)

        assert augmented({**BATCH, "video": video}, SMALL)["video"][0, 0, :, 0, 0].tolist() == [0, 1]

    def test_a_still_clip_without_its_mean_over_time_is_0(self) -> None:
        settings = dataclasses.replace(SMALL, subtract_clip_mean=True)
        still = BATCH["video"][:, :1].expand(-1, 4, -1, -1, -1)

        assert augmented({**BATCH, "video": still}, settings)["video"].abs().max() < 1e-6
        assert augmented(BATCH, settings)["video"].mean(dim=2).abs().max() < 1e-6


class TestCheck:
    def test_a_set_that_suits_passes(self, split: Split) -> None:
        clip_and_mel.check(split.dataset, Settings(resize_height=36, resize_width=48, crop=32))

    def test_frames_that_are_too_small_are_refused_with_the_command_that_makes_larger_ones(self, split: Split) -> None:
        with pytest.raises(ShardError, match=r"short side of 36, the view needs 128: ks-shard --short_side 128"):
            clip_and_mel.check(split.dataset, Settings())

    @pytest.mark.parametrize("audio", ["mel_window", "waveform"])
    def test_a_set_without_sound_is_refused_with_the_command_that_keeps_it(self, audio: Any, split: Split) -> None:
        settings = Settings(resize_height=36, resize_width=36, crop=32, audio=audio)

        with pytest.raises(ShardError, match=r"have no flac, which the view needs; .*ks-shard --audio flac$"):
            clip_and_mel.check(split.dataset, settings)

    @pytest.mark.parametrize(
        ("parts", "said"),
        [
            ((layout.META, layout.FRAMES), "the shards of .* have no sound, and the view needs picture and sound$"),
            ((layout.META, layout.MEL, layout.AUDIO), "have no picture, and the view needs picture and sound$"),
        ],
    )
    def test_a_set_of_one_modality_is_refused_in_one_sentence(
        self, parts: tuple[str, ...], said: str, split: Split
    ) -> None:
        facts: dict[str, Any] = {"frames": {}} if layout.MEL in parts else {"mel": {}, "audio": {}}
        one = dataclasses.replace(split.dataset, parts=parts, **facts)

        with pytest.raises(ShardError, match=said):
            clip_and_mel.check(one, Settings())

    def test_a_missing_part_is_named(self, split: Split) -> None:
        without = dataclasses.replace(split.dataset, parts=(layout.META, layout.FRAMES))

        with pytest.raises(ShardError, match=r"have no mel\.npy.*ks-shard"):
            clip_and_mel.check(without, Settings(resize_height=36, resize_width=36, crop=32))

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"crop": 129}, "crop 129 is larger than 128 x 171 pixels"),
            ({"resize_width": 100}, "crop 112 is larger than 128 x 100 pixels"),
            ({"mel_crop": 129}, "mel_crop 129 is larger than mel_resize 128"),
            ({"frames": 0}, "must be at least 1"),
            ({"crop": 0}, "must be at least 1"),
            ({"views": 0}, "must be at least 1"),
            ({"views": 1000}, "1000 x 16 frames of 128 x 171 are more than 268435456 pixels"),
            ({"rate": 0.0}, r"rate 0\.0 must be more than 0"),
            ({"audio_colours": "magma", "audio_channels": 1}, "magma gives 3 audio_channels"),
            ({"audio_colours": "magma", "audio": "waveform"}, "magma is for a mel-spectrogram, not for audio waveform"),
            ({"window_seconds": 0.0}, r"window_seconds 0\.0 must be more than 0"),
            ({"window_seconds": float("inf")}, "window_seconds inf must be more than 0"),
        ],
    )
    def test_settings_that_no_sample_could_meet_are_refused(self, change: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            Settings(**change)


AUGMENTED = dataclasses.replace(
    SMALL,
    views=2,
    video_augment="multi_scale_crop,flip,colour_jitter,grey,gaussian_blur,cutout",
    audio_augment="volume_jitter,spec_mask,resize_crop",
)


class TestAugmented:
    """With a list of augmentations a training view draws what the device then does."""

    SAMPLE = Exact(placed(20, side=16), mel_FT=np.linspace(0, 1, 144).reshape(12, 12))

    def test_what_a_worker_gives_has_the_shapes_it_says(self) -> None:
        shapes = clip_and_mel.arrays(AUGMENTED)
        generator = np.random.default_rng(0)
        for made in (
            clip_and_mel.train_view(self.SAMPLE, AUGMENTED, generator),
            clip_and_mel.val_view(self.SAMPLE, AUGMENTED),
        ):
            assert {name: (tuple(each.shape), each.dtype) for name, each in made.items()} == shapes

    def test_the_same_generator_gives_the_same_and_another_one_does_not(self) -> None:
        made = [
            clip_and_mel.train_view(self.SAMPLE, AUGMENTED, np.random.default_rng(seed))["draws"] for seed in (0, 0, 1)
        ]

        assert torch.equal(made[0], made[1])
        assert not torch.equal(made[0], made[2])
        assert not torch.equal(made[0][0], made[0][1])

    def test_validation_and_evaluation_are_not_augmented(self) -> None:
        plain = dataclasses.replace(AUGMENTED, video_augment="", audio_augment="")
        for views in (
            (clip_and_mel.val_view(self.SAMPLE, AUGMENTED), clip_and_mel.val_view(self.SAMPLE, plain)),
            (clip_and_mel.eval_views(self.SAMPLE, AUGMENTED, 2), clip_and_mel.eval_views(self.SAMPLE, plain, 2)),
        ):
            found, expected = (
                clip_and_mel.augment({name: each[None] for name, each in arrays.items()}, settings)
                for arrays, settings in zip(views, (AUGMENTED, plain), strict=True)
            )
            assert all(torch.equal(found[name], expected[name]) for name in expected)

    def test_training_is(self) -> None:
        arrays = clip_and_mel.train_view(self.SAMPLE, AUGMENTED, np.random.default_rng(0))
        batch = {name: each[None] for name, each in arrays.items()}
        found = clip_and_mel.augment(batch, AUGMENTED)
        plain = clip_and_mel.augment({name: batch[name] for name in ("video", "audio")}, AUGMENTED)

        assert not torch.allclose(found["video"], plain["video"])
        assert not torch.allclose(found["audio"], plain["audio"])
        assert found["video"].shape == plain["video"].shape

    def test_without_a_list_the_arrays_are_what_they_were(self) -> None:
        assert set(clip_and_mel.arrays(SMALL)) == {"video", "audio"}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"video_augment": "volume_jitter"},
            {"audio_augment": "flip"},
            {"video_augment": "nothing"},
            {"audio_augment": "spec_mask", "audio": "waveform"},
        ],
    )
    def test_a_list_that_cannot_be_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="augment"):
            dataclasses.replace(SMALL, **wrong)
