import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import encode, frames, probe, synthesize
from kinetics_sounds.media.frames import Decoder

COUNT = 40
DECODERS: tuple[Decoder, ...] = ("decord", "pyav")


def stored(folder: Path, frames_THWC: np.ndarray) -> bytes:
    clip = folder / "source.mp4"
    waveform = np.zeros(24_000, np.float32)
    synthesize.write_mp4(clip, frames_THWC, waveform, fps=10, sample_rate=24_000, crf=4)
    made = encode.encode(
        clip, found=probe.probe(clip), scratch=folder, encoding=encode.Encoding(short_side=48), timeout_seconds=30
    )
    assert made.num_frames == len(frames_THWC)
    return made.mp4


@pytest.fixture(scope="session")
def ramp_mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """40 stored frames of 48 x 64; frame n is one grey of level 10 + 6n."""
    levels = (10 + 6 * np.arange(COUNT)).astype(np.uint8)
    ramp = np.broadcast_to(levels[:, None, None, None], (COUNT, 48, 64, 3))
    return stored(tmp_path_factory.mktemp("ramp"), ramp)


@pytest.fixture(scope="session")
def coloured_mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """40 stored frames of moving coloured blocks: motion, edges and every hue."""
    blocks = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    moving = np.stack([np.roll(blocks, (3 * step, 5 * step), (0, 1)) for step in range(COUNT)])
    return stored(tmp_path_factory.mktemp("coloured"), moving)


def shown(frames_THWC: np.ndarray) -> list[int]:
    return [round((float(frame.mean()) - 10) / 6) for frame in frames_THWC]


WANTED = [[0], [39], [39, 38, 0], [5, 5, 5], [15, 16, 17], [31, 0, 32], list(range(COUNT)), list(range(39, -1, -1))]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("numbers", WANTED, ids=str)
def test_the_frames_asked_for_come_in_the_order_asked_for(
    ramp_mp4: bytes, decoder: Decoder, numbers: list[int]
) -> None:
    found = frames.decode(ramp_mp4, numbers, decoder=decoder)

    assert shown(found) == numbers
    assert found.shape == (len(numbers), 48, 64, 3)
    assert found.dtype == np.uint8


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=20))
def test_both_decoders_give_the_same_bits(coloured_mp4: bytes, numbers: list[int]) -> None:
    by_decord, by_pyav = (frames.decode(coloured_mp4, numbers, decoder=decoder) for decoder in DECODERS)

    assert np.array_equal(by_decord, by_pyav)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_frame_does_not_depend_on_the_others_asked_for(coloured_mp4: bytes, decoder: Decoder) -> None:
    whole = frames.decode(coloured_mp4, range(COUNT), decoder=decoder)

    for number in (0, 1, 15, 16, 25, 39):
        assert np.array_equal(frames.decode(coloured_mp4, [number], decoder=decoder)[0], whole[number])


@pytest.mark.parametrize("decoder", DECODERS)
def test_red_is_first(tmp_path: Path, decoder: Decoder) -> None:
    red = np.zeros((3, 48, 64, 3), np.uint8)
    red[..., 0] = 255

    colour = frames.decode(stored(tmp_path, red), [1], decoder=decoder).mean((0, 1, 2))
    assert colour == pytest.approx([255, 0, 0], abs=6)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("numbers", [[], [-1], [COUNT], [0, COUNT], [3, -1, 5], [10**9]], ids=str)
def test_a_frame_that_is_not_there_is_an_error(ramp_mp4: bytes, decoder: Decoder, numbers: list[int]) -> None:
    with pytest.raises(MediaError, match="asked of a stored clip of 40"):
        frames.decode(ramp_mp4, numbers, decoder=decoder)


def damaged(mp4: bytes) -> dict[str, bytes]:
    data = mp4.index(b"mdat") + 4
    zeroed = bytearray(mp4)
    zeroed[data + 100 : data + 600] = bytes(500)
    return {
        "empty": b"",
        "garbage": np.random.default_rng(0).bytes(5000),
        "only a head": mp4[:40],
        "cut short": mp4[:-200],
        "cut in half": mp4[: len(mp4) // 2],
        "zeroed": bytes(zeroed),
    }


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", ["empty", "garbage", "only a head", "cut short", "cut in half"])
def test_bytes_that_do_not_decode_are_an_error(coloured_mp4: bytes, decoder: Decoder, kind: str) -> None:
    with pytest.raises(MediaError):
        frames.decode(damaged(coloured_mp4)[kind], [0, 20], decoder=decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_damage_within_the_pictures_is_an_error_or_a_picture(coloured_mp4: bytes, decoder: Decoder) -> None:
    try:
        found = frames.decode(damaged(coloured_mp4)["zeroed"], [0, 5, 39], decoder=decoder)
    except MediaError:
        return
    assert found.shape == (3, 48, 64, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("decoder", "where"), [("decord", "pictures"), ("pyav", "pictures"), ("pyav", "anywhere")])
def test_flipped_bits_end_in_an_error_or_a_picture(coloured_mp4: bytes, decoder: Decoder, where: str) -> None:
    """In a process of its own: nothing here may hang or crash. (decord does, where the bit lies in the mp4's tables.)"""
    code = """
import sys
import numpy as np
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import frames
mp4, random = sys.stdin.buffer.read(), np.random.default_rng(0)
decoder, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for _ in range(60):
    broken = bytearray(mp4)
    for place in random.integers(first, last, random.integers(1, 20)):
        broken[place] ^= 1 << random.integers(8)
    try:
        assert frames.decode(bytes(broken), [0, 20, 39], decoder=decoder).shape[0] == 3
    except MediaError:
        pass
"""
    first, last = coloured_mp4.index(b"mdat") + 4, coloured_mp4.index(b"moov") - 4
    bounds = (first, last) if where == "pictures" else (8, len(coloured_mp4))
    argv = [sys.executable, "-c", code, decoder, *map(str, bounds)]
    subprocess.run(argv, input=coloured_mp4, check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_playlist_in_a_shard_opens_no_address(decoder: Decoder) -> None:
    """In a process of its own: decord would wait for the address for ever, and no one could stop it."""
    code = """
import sys
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import frames
try:
    frames.decode(sys.stdin.buffer.read(), [0], decoder=sys.argv[1])
except MediaError as error:
    print(error)
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:8\n#EXTINF:8,\n{address}\n#EXT-X-ENDLIST\n".encode()
        argv = [sys.executable, "-c", code, decoder]
        done = subprocess.run(argv, input=playlist, capture_output=True, check=True, timeout=20)

        assert done.stdout == b"the stored frames are no mp4\n"
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
