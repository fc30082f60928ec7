import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kinetics_sounds import sampling

LENGTHS = st.integers(1, 400)
FRAMES = st.integers(1, 64)
STEPS = st.floats(0.2, 5) | st.sampled_from([1, 2, 30 / 16, 25 / 16, 25 / 30])
SEEDS = st.integers(0, 2**32)
SECONDS = st.floats(0, 12)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestStep:
    def test_eight_frames_at_16_of_a_clip_of_30(self) -> None:
        step = sampling.step_of(30, 16)

        assert step == 1.875
        assert sampling.frame_indices(0, 8, length=300, step=step) == [0, 1, 3, 5, 7, 9, 11, 13]
        assert sampling.span(30, 8, fps=30, step=step) == (1.0, 1.5)

    def test_a_clip_of_8_shows_every_frame_twice_at_16(self) -> None:
        assert sampling.frame_indices(3, 8, length=80, step=sampling.step_of(8, 16)) == [3, 3, 4, 4, 5, 5, 6, 6]

    def test_32_frames_at_30_of_a_clip_of_29_97_are_consecutive(self) -> None:
        step = sampling.step_of(30_000 / 1001, 30)

        assert sampling.frame_indices(7, 32, length=300, step=step) == list(range(7, 39))
        assert sampling.frame_indices(0, 4, length=300, step=sampling.step_of(29.97, 15)) == [0, 2, 4, 6]

    def test_25_of_30_repeats_every_sixth(self) -> None:
        assert sampling.frame_indices(0, 7, length=300, step=sampling.step_of(25, 30)) == [0, 0, 1, 2, 3, 4, 5]

    def test_a_product_just_under_a_whole_number_is_that_number(self) -> None:
        assert (0.58 * 50, 21 * (9 / 7), 0.29 * 100) == (28.999999999999996, 27.000000000000004, 28.999999999999996)

        assert sampling.frame_indices(0, 51, length=100, step=sampling.step_of(29, 50))[50] == 29
        assert sampling.last_start(30, 21, step=9 / 7) == 3
        assert sampling.start_at(0.29, 1000, 16, fps=100) == 29

    @pytest.mark.parametrize(("fps", "rate"), [(0, 16), (30, 0), (-1, 16), (30, float("nan")), (float("inf"), 16)])
    def test_a_rate_that_cannot_be_is_an_error(self, fps: float, rate: float) -> None:
        with pytest.raises(ValueError, match="rates must be positive"):
            sampling.step_of(fps, rate)

    @given(start=st.integers(0, 300), frames=FRAMES, fps=st.floats(5, 30), rate=st.floats(5, 30))
    def test_each_frame_is_the_one_shown_at_its_moment(self, start: int, frames: int, fps: float, rate: float) -> None:
        step = sampling.step_of(fps, rate)
        assume(abs(step - round(step)) > step / 500)

        for place, number in enumerate(sampling.frame_indices(start, frames, length=10**6, step=step)):
            moment = start / fps + place / rate
            assert number / fps - 1e-6 <= moment < (number + 1) / fps + 1e-6


class TestStarts:
    def test_the_last_start_of_16_in_20_is_4(self) -> None:
        assert sampling.last_start(20, 16) == 4
        assert {sampling.random_start(20, 16, rng(seed)) for seed in range(100)} == {0, 1, 2, 3, 4}

    @given(length=LENGTHS, frames=FRAMES, seed=SEEDS)
    def test_a_random_start_is_one_draw_of_the_generator(self, length: int, frames: int, seed: int) -> None:
        """Written out: published runs can be repeated as long as it is this very draw."""
        expected, generator = rng(seed), rng(seed)
        start = int(expected.integers(max(length - frames, 0) + 1))

        assert sampling.random_start(length, frames, generator) == start
        assert generator.random() == expected.random()
        assert sampling.frame_indices(start, frames, length=length) == [
            number % length for number in range(start, start + frames)
        ]

    @given(length=LENGTHS, frames=FRAMES, step=STEPS, seed=SEEDS)
    def test_what_fits_does_not_begin_again(self, length: int, frames: int, step: float, seed: int) -> None:
        assume(frames * step <= length)
        last = sampling.last_start(length, frames, step=step)

        for start in (
            sampling.random_start(length, frames, rng(seed), step=step),
            sampling.gop_aligned_start(length, frames, rng(seed), step=step),
            *sampling.uniform_starts(length, frames, 10, step=step),
        ):
            taken = sampling.frame_indices(start, frames, length=length, step=step)
            assert taken == sorted(taken)
            assert 0 <= start <= last
            assert start + frames * step <= length + 1e-5
        assert last + 1 + frames * step > length

    @given(length=LENGTHS, frames=FRAMES, step=STEPS, seed=SEEDS)
    def test_every_number_lies_in_the_clip(self, length: int, frames: int, step: float, seed: int) -> None:
        start = sampling.random_start(length, frames, rng(seed), step=step)
        taken = sampling.frame_indices(start, frames, length=length, step=step)

        assert len(taken) == frames
        assert all(0 <= number < length for number in taken)

    def test_a_clip_that_is_too_short_begins_again(self) -> None:
        assert sampling.random_start(5, 12, rng()) == 0
        assert sampling.frame_indices(0, 12, length=5) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]

    @pytest.mark.parametrize(
        ("length", "starts"), [(15, {0}), (16, {0}), (31, {0}), (32, {0, 16}), (300, set(range(0, 300 - 15, 16)))]
    )
    def test_starts_of_groups(self, length: int, starts: set[int]) -> None:
        assert {sampling.gop_aligned_start(length, 16, rng(seed)) for seed in range(400)} == starts

    def test_ten_even_starts_are_those_of_the_centres_of_methods_6_2(self) -> None:
        """Centres at linspace(L/2, T - L/2, 10) for L of 16 and T of 300."""
        centres = np.linspace(8, 292, 10)

        assert sampling.uniform_starts(300, 16, 10) == [int(centre - 8) for centre in centres]
        assert sampling.uniform_starts(300, 16, 1) == [142]
        assert sampling.uniform_starts(10, 16, 3) == [0, 0, 0]

    @given(length=LENGTHS, frames=FRAMES, clips=st.integers(2, 30), step=STEPS)
    def test_even_starts_are_even(self, length: int, frames: int, clips: int, step: float) -> None:
        starts = sampling.uniform_starts(length, frames, clips, step=step)

        assert (starts[0], starts[-1]) == (0, sampling.last_start(length, frames, step=step))
        assert max(np.diff(starts)) - min(np.diff(starts)) <= 1

    @pytest.mark.parametrize(("seconds", "start"), [(-1, 0), (0, 0), (0.99, 9), (1, 10), (0.3, 3), (9, 84), (100, 84)])
    def test_a_start_at_a_time(self, seconds: float, start: int) -> None:
        assert sampling.start_at(seconds, 100, 16, fps=10) == start

    @pytest.mark.parametrize(
        ("length", "frames", "step"), [(0, 16, 1), (10, 0, 1), (10, 16, 0), (10, 16, float("inf"))]
    )
    def test_nothing_to_take_is_an_error(self, length: int, frames: int, step: float) -> None:
        with pytest.raises(ValueError, match="were requested from a clip of"):
            sampling.random_start(length, frames, rng(), step=step)

    def test_no_clip_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="clips must be at least 1, not 0"):
            sampling.uniform_starts(300, 16, 0)


class TestStartWithin:
    """Views of 8 frames of 25 a second at 16 a second: half a second, 12.5 stored frames."""

    def starts(self, begin: float, end: float, length: int = 250) -> set[int]:
        """All that are drawn in 300 times."""
        return {sampling.start_within(begin, end, length, 8, rng(seed), fps=25, step=25 / 16) for seed in range(300)}

    def test_every_start_from_which_the_view_lies_between(self) -> None:
        """From 4 to 5 s: frame 100 is shown at 4 s, and from frame 112 the view ends at 4.98 s."""
        assert self.starts(4, 5) == set(range(100, 113))

    def test_the_clips_own_ends_bound_it(self) -> None:
        assert self.starts(-0.5, 1) == set(range(13))
        assert self.starts(9, 11) == set(range(225, 238))
        assert self.starts(0, 2, length=5) == {0}

    def test_a_view_that_is_longer_lies_about_the_middle(self) -> None:
        """Between 4 and 4.2 s; the middle of the view from frame 96 on is at 4.09 s."""
        assert self.starts(4, 4.2) == {96}

    def test_where_nothing_is_the_nearest_is_taken(self) -> None:
        assert self.starts(20, 22) == {237}
        assert self.starts(-9, -7) == {0}

    def test_each_is_as_likely(self) -> None:
        found = [sampling.start_within(4, 5, 250, 8, rng(seed), fps=25, step=25 / 16) for seed in range(2600)]

        assert all(140 < found.count(start) < 260 for start in range(100, 113))


class TestSound:
    """Of 10 s, 240,000 samples, where not said otherwise."""

    TRACK = 240_000

    def centred(self, begin: float, end: float, *, seed: int = 0, track: int = TRACK, jitter: float = 0.0) -> float:
        first, count = sampling.centred_window(begin, end, rng(seed), seconds=2, jitter=jitter, track=track)
        assert count == 48_000
        return first / sampling.SAMPLE_RATE

    def covering(self, begin: float, end: float, *, seed: int = 0, seconds: float = 2) -> float:
        first, count = sampling.covering_window(begin, end, rng(seed), seconds=seconds, track=self.TRACK)
        assert count == seconds * 24_000
        return first / sampling.SAMPLE_RATE

    def test_two_seconds_around_half_a_second(self) -> None:
        assert self.centred(4.0, 4.5) == 3.25

    def test_the_edge_keeps_it_within_the_track(self) -> None:
        assert self.centred(0, 0.5) == 0
        assert self.centred(9.5, 10) == 8
        assert self.centred(50, 50.5, jitter=0.5) == 8

    def test_jitter_reaches_half_a_second_to_both_sides(self) -> None:
        found = [self.centred(4.0, 4.5, seed=seed, jitter=0.5) for seed in range(300)]

        assert 2.75 <= min(found) < 2.80
        assert 3.70 < max(found) <= 3.75
        assert np.mean(found) == pytest.approx(3.25, abs=0.06)

    def test_the_span_lies_anywhere_in_the_window(self) -> None:
        found = [self.covering(4.0, 4.5, seed=seed) for seed in range(300)]

        assert 2.5 <= min(found) < 2.55
        assert 3.95 < max(found) <= 4.0
        assert np.mean(found) == pytest.approx(3.25, abs=0.1)

    def test_at_the_edge_every_place_that_there_is_is_as_likely(self) -> None:
        """A span that begins at 1 s allows windows from 0 to 1 s: none of them is drawn much more than the others."""
        found = [self.covering(1.0, 1.5, seed=seed) for seed in range(400)]

        assert np.mean(found) == pytest.approx(0.5, abs=0.06)
        assert sum(place == 0 for place in found) <= 2

    def test_the_span_of_the_whole_clip_gives_a_random_window(self) -> None:
        found = [self.covering(0, 10, seed=seed, seconds=1.2) for seed in range(300)]

        assert min(found) < 0.2
        assert max(found) > 8.6
        assert np.mean(found) == pytest.approx(4.4, abs=0.5)

    def test_a_short_track_is_given_whole(self) -> None:
        assert sampling.centred_window(0.2, 0.7, rng(), seconds=2, jitter=0.5, track=30_000) == (0, 30_000)
        assert sampling.covering_window(0.2, 0.7, rng(), seconds=2, track=30_000) == (0, 30_000)
        assert sampling.covering_window(0, 1, rng(), seconds=2, track=0) == (0, 0)

    @given(begin=SECONDS, long=SECONDS, seconds=st.floats(0.001, 12), track=st.integers(0, 300_000), seed=SEEDS)
    def test_a_window_lies_in_the_track_and_holds_what_it_can(
        self, begin: float, long: float, seconds: float, track: int, seed: int
    ) -> None:
        end = begin + long
        for first, count in (
            sampling.covering_window(begin, end, rng(seed), seconds=seconds, track=track),
            sampling.centred_window(begin, end, rng(seed), seconds=seconds, jitter=0.5, track=track),
        ):
            assert 0 <= first <= first + count <= track
            assert count in (track, round(seconds * sampling.SAMPLE_RATE))
        first, count = sampling.covering_window(begin, end, rng(seed), seconds=seconds, track=track)
        if seconds >= long and end * sampling.SAMPLE_RATE <= track:
            assert first <= begin * sampling.SAMPLE_RATE + 1
            assert first + count >= end * sampling.SAMPLE_RATE - 1

    @pytest.mark.parametrize(("seconds", "jitter"), [(0, 0.5), (-1, 0.5), (2, -0.5), (float("nan"), 0.5)])
    def test_a_window_that_cannot_be_is_an_error(self, seconds: float, jitter: float) -> None:
        with pytest.raises(ValueError, match="is invalid"):
            sampling.centred_window(4, 4.5, rng(), seconds=seconds, jitter=jitter, track=self.TRACK)
