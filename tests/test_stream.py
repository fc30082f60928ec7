import io
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import simplejpeg
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds import stream
from kinetics_sounds.errors import BadSampleError, MediaError, ShardError
from kinetics_sounds.media import decode as media_decode
from kinetics_sounds.media.encode import SAMPLE_RATE
from kinetics_sounds.shards import layout
from kinetics_sounds.stream import Meta

from .shards.sets import make

# --- Samples --------------------------------------------------------------------------------------------------------

FRAMES_THWC = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(16, 2).repeat(3, 3) * 50
"""Five even grey pictures: 0, 50, 100, 150 and 200."""
JPEGS = [simplejpeg.encode_jpeg(np.ascontiguousarray(frame_HWC), quality=95) for frame_HWC in FRAMES_THWC]
META = {"num_frames": 5, "fps": 25.0, "audio_samples": 2400}
JPEG_META = META | {"frame_bytes": list(map(len, JPEGS)), "frame_crcs": list(map(crc32, JPEGS))}
MEL_FT = np.arange(12, dtype=np.float16).reshape(3, 4) / 16
FACTS: dict[str, Any] = {"frames": {"short_side": 8}, "mel": {"bands": 3, "columns": 4}}
"""Of the set."""
WAVEFORM = np.sin(np.arange(2400) / 20).astype(np.float32) / 2


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def flac() -> bytes:
    out = io.BytesIO()
    soundfile.write(out, WAVEFORM, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return out.getvalue()


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., stream.Split]:
    """A function from some parts of a sample, the others being good, to a split of three such."""

    def split(**changed: bytes) -> stream.Split:
        good = {
            layout.JPEGS: b"".join(JPEGS),
            layout.MEL: npy(MEL_FT),
            layout.AUDIO: flac(),
            layout.META: json.dumps(JPEG_META).encode(),
        }
        return stream.open_split(make(tmp_path, (1, 2), parts=lambda _: good | changed, **FACTS), "train")

    return split


def test_a_sample_is_what_was_stored(opened: Callable[..., stream.Split]) -> None:
    with stream.sample(opened(), 1) as sample:
        assert (sample.key, sample.label_index) == ("k_1", 1)
        assert (sample.meta.num_frames, sample.meta.fps, sample.meta.audio_samples) == (5, 25.0, 2400)
        assert sample.part(layout.AUDIO) == flac()
        assert np.array_equal(sample.mel(), MEL_FT)
        assert sample.mel().dtype == np.float16
        assert sample.waveform() == pytest.approx(WAVEFORM, abs=1e-4)
        assert sample.waveform(first=100, count=7) == pytest.approx(WAVEFORM[100:107], abs=1e-4)
        assert sample.read_seconds > 0


def test_jpegs_come_in_the_order_that_was_asked_for_and_only_those_are_read(
    opened: Callable[..., stream.Split],
) -> None:
    with stream.sample(opened(), 0) as sample:
        assert np.abs(sample.frames([3, 0, 3]).astype(int) - FRAMES_THWC[[3, 0, 3]]).max() <= 1

    damaged = b"".join([*JPEGS[:4], bytes(len(JPEGS[4]))])
    with stream.sample(opened(**{layout.JPEGS: damaged}), 0) as sample:
        assert sample.frames(range(4)).shape == (4, 8, 16, 3)
        with pytest.raises(BadSampleError, match=r"train-000000.tar: sample k_0: its mjpeg is damaged"):
            sample.frames([4])


@pytest.mark.parametrize("numbers", [[5], [-1], [0, 5], []])
def test_jpegs_that_are_not_there_are_refused(opened: Callable[..., stream.Split], numbers: list[int]) -> None:
    with stream.sample(opened(), 0) as sample, pytest.raises(BadSampleError, match="were requested of 5"):
        sample.frames(numbers)


def test_video_is_decoded_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bytes, list[int], str, int]] = []

    def decode(mp4: bytes, numbers: list[int], *, decoder: str, length: int) -> np.ndarray:
        asked.append((mp4, numbers, decoder, length))
        return FRAMES_THWC[numbers]

    monkeypatch.setattr(media_decode, "decode", decode)
    parts = {layout.FRAMES: b"an mp4", layout.META: json.dumps(META).encode()}
    split = stream.open_split(make(tmp_path, (1,), parts=lambda _: parts, **FACTS), "train")
    with stream.sample(split, 0) as sample:
        assert sample.frames([1, 0], decoder="pyav").shape == (2, 8, 16, 3)
    assert asked == [(b"an mp4", [1, 0], "pyav", 5)]


def test_a_part_that_is_not_stored_is_named(tmp_path: Path) -> None:
    split = stream.open_split(make(tmp_path, (1,), parts=lambda _: {layout.META: json.dumps(META).encode()}), "train")
    with stream.sample(split, 0) as sample:
        for ask in (sample.mel, sample.waveform, lambda: sample.frames([0])):
            with pytest.raises(ShardError, match="has no part") as caught:
                ask()
            assert not isinstance(caught.value, BadSampleError)
        assert sample.meta == Meta(num_frames=5, fps=25.0, audio_samples=2400)


def test_sound_that_does_not_decode_is_named(opened: Callable[..., stream.Split]) -> None:
    with stream.sample(opened(**{layout.AUDIO: b"fLaC"}), 0) as sample, pytest.raises(MediaError):
        sample.waveform()


@pytest.mark.parametrize(
    "mel",
    [
        b"",
        b"\x80\x04N.",
        npy(MEL_FT)[:-1],
        npy(MEL_FT) + b"\0",
        npy(MEL_FT.astype(np.float32)),
        npy(np.asfortranarray(MEL_FT)),
        npy(MEL_FT[0]),
        npy(MEL_FT).replace(b"'descr': '<f2'", b"'descr': '|O' "),
        npy(MEL_FT).replace(b"(3, 4)", b"(99999999, 99999999)"),
        npy(MEL_FT).replace(b"NUMPY\x01", b"NUMPY\x03"),
    ],
    ids=[
        "empty",
        "a pickle",
        "cut",
        "longer",
        "float32",
        "by columns",
        "a row",
        "objects",
        "huge",
        "version",
    ],
)
def test_a_mel_that_is_none_is_a_bad_sample(opened: Callable[..., stream.Split], mel: bytes) -> None:
    told = r"train-000000.tar: sample k_0: its mel-spectrogram cannot be read"
    with stream.sample(opened(**{layout.MEL: mel}), 0) as sample, pytest.raises(BadSampleError, match=told):
        sample.mel()


@pytest.mark.parametrize(
    ("mel_FT", "said"),
    [
        (MEL_FT[:, :3], "is 3 x 3, not 3 x 4"),
        (MEL_FT.T, "is 4 x 3, not 3 x 4"),
        (np.where(MEL_FT > 0.5, np.nan, MEL_FT), "holds 3 values outside of 0 to 1, such as nan"),
        (np.where(MEL_FT == 0.5, np.inf, MEL_FT), "holds 1 values outside of 0 to 1, such as inf"),
        (-MEL_FT, "holds 11 values outside of 0 to 1, such as -0.0625"),
        (MEL_FT + 0.5, "holds 3 values outside of 0 to 1, such as 1.0625"),
    ],
    ids=["fewer columns", "turned", "NaN", "infinity", "below 0", "above 1"],
)
def test_a_mel_that_is_not_as_the_set_says_is_a_bad_sample(
    opened: Callable[..., stream.Split], mel_FT: np.ndarray, said: str
) -> None:
    wrong = {layout.MEL: npy(np.ascontiguousarray(mel_FT, dtype=np.float16))}
    told = f"train-000000.tar: sample k_0: its mel-spectrogram {re.escape(said)}"
    with stream.sample(opened(**wrong), 0) as sample, pytest.raises(BadSampleError, match=told):
        sample.mel()


def test_every_float16_is_told_apart_as_comparing_does() -> None:
    """All 65,536 of them."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)

    assert np.array_equal(stream.in_unit_range(every), (every >= 0) & (every <= 1))


def test_frames_of_another_size_than_the_set_says_are_a_bad_sample(opened: Callable[..., stream.Split]) -> None:
    small = [simplejpeg.encode_jpeg(np.zeros((6, 16, 3), np.uint8))] * 5
    meta = META | {"frame_bytes": list(map(len, small)), "frame_crcs": list(map(crc32, small))}
    wrong = {layout.JPEGS: b"".join(small), layout.META: json.dumps(meta).encode()}
    told = "train-000000.tar: sample k_0: its frames are 16 x 6"
    with stream.sample(opened(**wrong), 0) as sample, pytest.raises(BadSampleError, match=told):
        sample.frames([0])


class Evil:
    """Its pickle leaves a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_mel_that_holds_a_pickle_is_a_bad_sample_and_the_pickle_is_not_loaded(
    opened: Callable[..., stream.Split], tmp_path: Path
) -> None:
    """NumPy's own format for objects, and a bare pickle under the name of an array."""
    ran = tmp_path / "ran"
    for data in (npy(np.array([[Evil(ran)]], dtype=object)), pickle.dumps(Evil(ran))):
        with (
            stream.sample(opened(**{layout.MEL: data}), 0) as sample,
            pytest.raises(BadSampleError, match="its mel-spectrogram cannot be read"),
        ):
            sample.mel()
    assert not ran.exists()


@pytest.mark.parametrize("bytes_", [[], list(map(len, JPEGS[:4]))])
def test_jpegs_of_another_number_than_the_metadata_say_are_a_bad_sample(
    opened: Callable[..., stream.Split], bytes_: list[int]
) -> None:
    """One more is stored, or the metadata do not say where one ends."""
    meta = META | {
        "num_frames": len(bytes_) or 5,
        "frame_bytes": bytes_,
        "frame_crcs": list(map(crc32, JPEGS))[: len(bytes_)],
    }
    with (
        stream.sample(opened(**{layout.META: json.dumps(meta).encode()}), 0) as sample,
        pytest.raises(BadSampleError, match=rf"its frames have {sum(map(len, JPEGS))} bytes, not {sum(bytes_)}"),
    ):
        sample.frames([0])


def test_sound_of_another_length_than_the_metadata_say_is_no_sound_of_it(opened: Callable[..., stream.Split]) -> None:
    """Wherever the window lies."""
    meta = json.dumps(JPEG_META | {"audio_samples": 2399}).encode()
    with (
        stream.sample(opened(**{layout.META: meta}), 0) as sample,
        pytest.raises(MediaError, match=r"the stored sound has 2400 samples, not 2399"),
    ):
        sample.waveform(first=0, count=5)


def test_a_set_that_does_not_say_what_its_parts_are_is_no_samples_fault(tmp_path: Path) -> None:
    parts = {layout.MEL: npy(MEL_FT), layout.META: json.dumps(META).encode()}
    with (
        stream.sample(stream.open_split(make(tmp_path, (1,), parts=lambda _: parts), "train"), 0) as sample,
        pytest.raises(ShardError, match=r"dataset.json lacks bands; make the set again") as caught,
    ):
        sample.mel()
    assert not isinstance(caught.value, BadSampleError)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_frames": None},
        {"num_frames": True},
        {"num_frames": -1},
        {"num_frames": 2.5},
        {"num_frames": 10**9},
        {"num_frames": 4},
        {"fps": "fast"},
        {"fps": None},
        {"audio_samples": -1},
        {"frame_bytes": [1]},
        {"frame_bytes": 5},
        {"frame_bytes": ["1"] * 5},
        {"frame_crcs": []},
    ],
    ids=str,
)
def test_metadata_that_cannot_be_is_a_bad_sample(opened: Callable[..., stream.Split], wrong: dict[str, Any]) -> None:
    meta = json.dumps(JPEG_META | wrong).encode()
    told = r"sample k_0: its metadata cannot be read"
    with stream.sample(opened(**{layout.META: meta}), 0) as sample, pytest.raises(BadSampleError, match=told):
        _ = sample.meta


@pytest.mark.parametrize("meta", [b"", b"{", b"[]", b"3", b"{}", b"\xff", b"[" * 100_000])
def test_metadata_that_is_no_document_is_a_bad_sample(opened: Callable[..., stream.Split], meta: bytes) -> None:
    told = r"sample k_0: its metadata cannot be read"
    with stream.sample(opened(**{layout.META: meta}), 0) as sample, pytest.raises(BadSampleError, match=told):
        _ = sample.meta


# --- Order ----------------------------------------------------------------------------------------------------------

counts_of = st.lists(st.integers(0, 7), max_size=8)
seeds = st.integers(0, 2**32)
windows = st.none() | st.integers(1, 9)


@settings(max_examples=150, deadline=None)
@given(counts=counts_of, seed=seeds, epoch=st.integers(0, 1000), window=windows)
def test_an_order_has_every_sample_once_and_is_the_same_every_time(
    counts: list[int], seed: int, epoch: int, window: int | None
) -> None:
    first, second = (stream.order(counts, seed=seed, epoch=epoch, window=window) for _ in range(2))

    assert sorted(first.tolist()) == list(range(sum(counts)))
    assert first.dtype == np.int64
    assert np.array_equal(first, second)


@settings(max_examples=150, deadline=None)
@given(counts=counts_of, seed=seeds, epoch=st.integers(0, 1000), window=st.integers(1, 9))
def test_no_more_than_a_window_of_shards_is_needed_at_once(
    counts: list[int], seed: int, epoch: int, window: int
) -> None:
    """The samples of `window` shards stand together, then those of the next ones; no shard is come back to."""
    tar_N = np.repeat(np.arange(len(counts)), counts)
    shards: list[int] = tar_N[stream.order(counts, seed=seed, epoch=epoch, window=window)].tolist()

    def last(shard: int) -> int:
        return len(shards) - shards[::-1].index(shard)

    overlapping = [
        {shard for shard in set(shards) if shards.index(shard) <= place < last(shard)} for place in range(len(shards))
    ]
    assert all(len(needed) <= window for needed in overlapping)


@settings(max_examples=100, deadline=None)
@given(counts=counts_of, seed=seeds, epoch=st.integers(0, 1000), window=windows)
def test_the_windows_are_those_of_the_order(counts: list[int], seed: int, epoch: int, window: int | None) -> None:
    tar_N = np.repeat(np.arange(len(counts)), counts)
    order, place = stream.order(counts, seed=seed, epoch=epoch, window=window), 0
    found = stream.windows(counts, seed=seed, epoch=epoch, window=window)
    for shards in found:
        size = sum(counts[shard] for shard in shards)
        assert set(tar_N[order[place : place + size]]) == {shard for shard in shards.tolist() if counts[shard]}
        place += size

    assert place == sum(counts)
    assert sorted(shard for shards in found for shard in shards.tolist()) == list(range(len(counts)))


def test_a_window_of_one_shard_reads_them_one_after_another() -> None:
    order = stream.order([3, 3, 3, 3], seed=1, epoch=0, window=1).tolist()
    runs = [{number // 3 for number in order[place : place + 3]} for place in range(0, 12, 3)]

    assert all(len(run) == 1 for run in runs)
    assert set.union(*runs) == {0, 1, 2, 3}
    assert order != sorted(order)


def test_without_a_window_the_whole_set_is_mixed() -> None:
    """Of 100 shards of 10, neighbours from one shard are as rare as chance: 9 of 999."""
    order = stream.order([10] * 100, seed=0, epoch=0)
    together = sum(first // 10 == second // 10 for first, second in pairwise(order.tolist()))

    assert together < 30
    assert np.array_equal(order, stream.order([10] * 100, seed=0, epoch=0, window=100))
    assert np.array_equal(order, stream.order([10] * 100, seed=0, epoch=0, window=10**9))


def test_every_place_is_as_likely_for_every_sample() -> None:
    """Over 3000 epochs, sample 0 of shards of 1, 2 and 3 comes at each of the 6 places about 500 times."""
    places = [stream.order([1, 2, 3], seed=0, epoch=epoch).tolist().index(0) for epoch in range(3000)]

    assert np.bincount(places, minlength=6) == pytest.approx(np.full(6, 500), abs=90)  # 4 standard deviations


def test_epochs_and_seeds_differ() -> None:
    orders = {stream.order([50], seed=seed, epoch=epoch).tobytes() for seed in range(10) for epoch in range(10)}

    assert len(orders) == 100


def test_an_order_is_the_same_in_another_process() -> None:
    here = stream.order([5, 6, 7], seed=3, epoch=4, window=2).tolist()
    code = "from kinetics_sounds import stream; print(stream.order([5, 6, 7], seed=3, epoch=4, window=2).tolist())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert json.loads(there.stdout) == here


def test_global_randomness_is_neither_used_nor_moved() -> None:
    np.random.seed(0)
    order, expected = stream.order([50], seed=3, epoch=4).tolist(), float(np.random.random())
    np.random.seed(0)

    assert float(np.random.random()) == expected
    assert stream.order([50], seed=3, epoch=4).tolist() == order


def test_an_order_stays_what_it_was() -> None:
    """A run that was begun under one version of this code, or of numpy, goes on under the next."""
    assert stream.order([3, 2, 4], seed=7, epoch=1).tolist() == [7, 0, 4, 8, 3, 1, 5, 6, 2]


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_of_no_shards_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=f"window must be at least one shard, not {window}"):
        stream.order([1, 2], seed=0, epoch=0, window=window)


def test_a_million_samples_are_ordered_in_a_moment() -> None:
    order = stream.order([250] * 4000, seed=0, epoch=0)

    assert len(order) == 1_000_000


# --- Randomness -----------------------------------------------------------------------------------------------------


def draw(seed: int = 0, epoch: int = 0, key: str = "k", view: str = "") -> float:
    return float(stream.rng(seed, epoch, key, view).random())


def test_a_sample_s_randomness_is_its_own() -> None:
    """The same for the same clip and epoch, whatever was drawn before; another for another of any of the four."""
    first = draw()
    stream.rng(0, 0, "k").random(1000)

    assert draw() == first
    assert len({first, draw(seed=1), draw(epoch=1), draw(key="l"), draw(view="second")}) == 5


@settings(max_examples=50, deadline=None)
@given(seed=seeds, epoch=st.integers(0, 10_000), key=st.text(max_size=80), view=st.text(max_size=5))
def test_any_key_has_randomness(seed: int, epoch: int, key: str, view: str) -> None:
    assert draw(seed, epoch, key, view) == draw(seed, epoch, key, view)


def test_samples_are_independent() -> None:
    draws = np.array([[draw(epoch=epoch, key=f"k_{key}") for key in range(200)] for epoch in range(20)])

    assert draws.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 0.3
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.8
    assert len(np.unique(draws)) == draws.size


# --- Stand-ins ------------------------------------------------------------------------------------------------------


def replacements(
    order: list[int], place: int, batch: int, *, seed: int = 0, epoch: int = 0, key: str = "k"
) -> list[int]:
    return list(stream.replacements(np.array(order), place=place, batch=batch, seed=seed, epoch=epoch, key=key))


def test_a_stand_in_has_its_column_of_another_step() -> None:
    """Batches of two of an order of seven: place 2 is the first of the second batch."""
    assert sorted(replacements([10, 11, 12, 13, 14, 15, 16], 2, 2)) == [10, 14, 16]
    assert sorted(replacements([10, 11, 12, 13, 14, 15, 16], 5, 2)) == [11, 13]
    assert replacements([10, 11], 0, 2) == []


@settings(max_examples=100, deadline=None)
@given(batch=st.integers(1, 9), steps=st.integers(1, 6), rest=st.integers(0, 8), data=st.data())
def test_bad_samples_of_a_batch_never_get_the_same_stand_in_nor_one_of_their_batch(
    batch: int, steps: int, rest: int, data: st.DataObject
) -> None:
    order = stream.order([samples := batch * steps + rest % batch], seed=0, epoch=0).tolist()
    step = data.draw(st.integers(0, steps - 1))
    places = range(step * batch, (step + 1) * batch)
    found = [number for place in places for number in replacements(order, place, batch, key=f"k_{order[place]}")]

    assert len(found) == len(set(found)) == samples - batch
    assert not set(found) & {order[place] for place in places}


def test_stand_ins_are_the_sample_s_own() -> None:
    order = list(range(100))
    first = replacements(order, 0, 2)

    assert replacements(order, 0, 2) == first
    others = [replacements(order, 0, 2, seed=1), replacements(order, 0, 2, epoch=1), replacements(order, 0, 2, key="l")]
    assert len(set(map(tuple, [first, *others]))) == 4
