import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import encode, probe, sound, synthesize

COUNT = 30_000


def flac(waveform: np.ndarray, *, rate: int = encode.SAMPLE_RATE, kind: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=kind, subtype="PCM_16")
    return file.getvalue()


@pytest.fixture(scope="session")
def ramp() -> bytes:
    """Sample n has the level n / 32768."""
    return flac(np.arange(COUNT, dtype=np.int16))


def test_all_of_it_is_float32_from_the_first_sample(ramp: bytes) -> None:
    found = sound.read(ramp)

    assert found.dtype == np.float32
    assert np.array_equal(found * 32768, np.arange(COUNT))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(0, COUNT), data=st.data())
def test_a_window_holds_its_samples(ramp: bytes, first: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, COUNT - first))

    assert np.array_equal(sound.read(ramp, first=first, count=count) * 32768, np.arange(first, first + count))
    assert np.array_equal(sound.read(ramp, first=first) * 32768, np.arange(first, COUNT))


@pytest.mark.parametrize(
    ("first", "count"), [(-1, None), (-1, 1), (0, -1), (0, COUNT + 1), (COUNT, 1), (COUNT + 1, 0), (COUNT + 1, None)]
)
def test_a_window_outside_of_the_track_is_an_error(ramp: bytes, first: int, count: int | None) -> None:
    with pytest.raises(MediaError, match=f"from {first} on were requested from a stored sound of {COUNT}"):
        sound.read(ramp, first=first, count=count)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "does not decode"),
        (b"no sound", "does not decode"),
        (flac(np.zeros((100, 2))), "FLAC of 2 channel"),
        (flac(np.zeros(100), rate=16_000), "at 16000 Hz"),
        (flac(np.zeros(100), kind="WAV"), "is WAV"),
    ],
    ids=["empty", "garbage", "stereo", "16 kHz", "wav"],
)
def test_other_bytes_are_told(data: bytes, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        sound.read(data)


@pytest.mark.parametrize("first", [0, COUNT - 10])
def test_a_track_that_is_cut_short_is_an_error(ramp: bytes, first: int) -> None:
    with pytest.raises(MediaError, match=r"does not decode|early"):
        sound.read(ramp[: len(ramp) // 2], first=first)


def test_a_track_that_claims_more_than_it_holds_is_an_error(ramp: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = ramp[:22] + (COUNT + 100).to_bytes(4) + ramp[26:]
    with pytest.raises(MediaError, match="does not decode"):
        sound.read(claim)

    whole = sound.read(ramp)  # a libsndfile that only stopped at the end would be told as well
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: whole[:-100])
    with pytest.raises(MediaError, match="ends 100 samples early"):
        sound.read(ramp)


def test_a_claim_of_2_to_the_36_samples_is_refused_before_it_is_decoded(ramp: bytes) -> None:
    claim = bytearray(ramp)
    claim[21] |= 0x0F  # STREAMINFO's count of samples: 4 bits of this byte and the next 4 bytes
    claim[22:26] = b"\xff" * 4

    with pytest.raises(MediaError, match="claims 68719476735 samples, more than 86400000"):
        sound.read(bytes(claim))


def test_it_is_what_was_stored(tmp_path: Path) -> None:
    clip, random = tmp_path / "source.mp4", np.random.default_rng(0)
    noise = random.uniform(-0.5, 0.5, 2 * 44_100).astype(np.float32)
    synthesize.write_mp4(clip, np.zeros((20, 48, 64, 3), np.uint8), noise, fps=10, sample_rate=44_100)
    made = encode.encode(
        clip,
        found=probe.probe(clip),
        scratch=tmp_path,
        encoding=encode.Encoding(short_side=48),
        timeout_seconds=30,
    )

    assert np.abs(made.waveform).max() > 0.1
    assert np.array_equal(sound.read(made.flac), made.waveform)
    assert np.array_equal(sound.read(made.flac, first=24_000, count=12_000), made.waveform[24_000:36_000])
