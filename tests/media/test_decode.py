import socket
import struct
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simplejpeg import decode_jpeg, encode_jpeg

from kinetics_sounds import plugins
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import decode as media_decode
from kinetics_sounds.media import encode, ffmpeg, probe, synthesize
from kinetics_sounds.media import mp4 as media_mp4
from kinetics_sounds.media.decode import pyav as decode_pyav
from kinetics_sounds.media.decode.pyav import frames

COUNT = 40
DECODERS = ("torchcodec", "decord", "pyav")
REAL = Path(__file__).parents[3] / "shared" / "data" / "videos"
"""Real clips; they are not the project's."""


def stored(folder: Path, frames_THWC: np.ndarray, *, fps: float = 10) -> bytes:
    clip = folder / "source.mp4"
    waveform = np.zeros(24_000, np.float32)
    synthesize.write_mp4(clip, frames_THWC, waveform, fps=fps, sample_rate=24_000, crf=4)
    made = encode.encode(
        clip,
        found=probe.probe(clip),
        scratch=folder,
        encoding=encode.Encoding(short_side=min(frames_THWC.shape[1:3])),
        timeout_seconds=30,
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
def test_the_frames_asked_for_come_in_the_order_asked_for(ramp_mp4: bytes, decoder: str, numbers: list[int]) -> None:
    found = media_decode.decode(ramp_mp4, numbers, decoder=decoder)

    assert shown(found) == numbers
    assert found.shape == (len(numbers), 48, 64, 3)
    assert found.dtype == np.uint8


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=20))
def test_all_decoders_give_the_same_bits(coloured_mp4: bytes, numbers: list[int]) -> None:
    by_torchcodec, by_decord, by_pyav = (media_decode.decode(coloured_mp4, numbers, decoder=each) for each in DECODERS)

    assert np.array_equal(by_torchcodec, by_pyav)
    assert np.array_equal(by_decord, by_pyav)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("size", [(48, 64), (50, 66), (54, 50), (130, 174)], ids=str)
def test_all_decoders_give_the_same_bits_of_clips_of_any_length_and_size(
    tmp_path: Path, count: int, size: tuple[int, int]
) -> None:
    noise = np.random.default_rng(count).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    mp4 = stored(tmp_path, noise, fps=29.97)
    wrapped = [number % count for number in range(count // 2, count // 2 + 32)]

    for numbers in (wrapped, [*range(count)][::-1]):
        by_torchcodec, by_decord, by_pyav = (media_decode.decode(mp4, numbers, decoder=each) for each in DECODERS)
        assert np.array_equal(by_torchcodec, by_pyav)
        assert np.array_equal(by_decord, by_pyav)
        assert by_pyav.shape == (len(numbers), *size, 3)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real videos here: {REAL} is missing")
@pytest.mark.parametrize(
    "name",
    [
        "k400/C4lCVBZ3ux0_000028_000038.mp4",  # 29.75 frames a second
        pytest.param("k400/dAeUFSdYG1I_000010_000020.mp4", marks=pytest.mark.slow_campaign),
        pytest.param("vgg_vas/Diff-Foley__car.mp4", marks=pytest.mark.slow_campaign),  # 21.5 frames a second
    ],
)
def test_all_decoders_give_the_same_bits_of_real_clips(tmp_path: Path, name: str) -> None:
    made = encode.encode(
        REAL / name, found=probe.probe(REAL / name), scratch=tmp_path, encoding=encode.Encoding(), timeout_seconds=60
    )
    every = list(range(made.num_frames))
    some = np.random.default_rng(0).integers(made.num_frames, size=20).tolist()

    for numbers in (every, some):
        by_torchcodec, by_decord, by_pyav = (media_decode.decode(made.mp4, numbers, decoder=each) for each in DECODERS)
        assert np.array_equal(by_torchcodec, by_pyav)
        assert np.array_equal(by_decord, by_pyav)


def test_pyav_frames_are_those_of_a_whole_pass(coloured_mp4: bytes, tmp_path: Path) -> None:
    """The table of samples is read right: ffmpeg itself, which reads the file in order, shows the same."""
    clip, raw = tmp_path / "clip.mp4", tmp_path / "clip.rgb"
    clip.write_bytes(coloured_mp4)
    argv = [ffmpeg.executable(), "-v", "error", "-i", str(clip), "-f", "rawvideo", "-pix_fmt", "yuv420p", str(raw)]
    subprocess.run(argv, check=True, timeout=60)
    luma_THW = np.frombuffer(raw.read_bytes(), np.uint8).reshape(COUNT, -1)[:, : 48 * 64].reshape(COUNT, 48, 64)
    shown_THWC = media_decode.decode(coloured_mp4, range(COUNT), decoder="pyav").astype(float)

    weighed_THW = 16 + shown_THWC @ np.array([65.481, 128.553, 24.966]) / 255  # BT.601
    # What lies outside of RGB is cut off, so the nearest is what is asked for: each frame is most like itself.
    away = np.abs(weighed_THW[:, None] - luma_THW[None]).mean((2, 3))
    assert away.argmin(1).tolist() == list(range(COUNT))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_frame_does_not_depend_on_the_others_asked_for(coloured_mp4: bytes, decoder: str) -> None:
    whole = media_decode.decode(coloured_mp4, range(COUNT), decoder=decoder)

    for number in (0, 1, 15, 16, 25, 39):
        assert np.array_equal(media_decode.decode(coloured_mp4, [number], decoder=decoder)[0], whole[number])


@pytest.mark.parametrize("decoder", DECODERS)
def test_red_is_first(tmp_path: Path, decoder: str) -> None:
    red = np.zeros((3, 48, 64, 3), np.uint8)
    red[..., 0] = 255

    colour = media_decode.decode(stored(tmp_path, red), [1], decoder=decoder).mean((0, 1, 2))
    assert colour == pytest.approx([255, 0, 0], abs=6)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("numbers", [[], [-1], [COUNT], [0, COUNT], [3, -1, 5], [10**9]], ids=str)
def test_a_frame_that_is_not_there_is_an_error(ramp_mp4: bytes, decoder: str, numbers: list[int]) -> None:
    with pytest.raises(MediaError, match="requested from a stored clip of 40"):
        media_decode.decode(ramp_mp4, numbers, decoder=decoder)


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
def test_bytes_that_do_not_decode_are_an_error(coloured_mp4: bytes, decoder: str, kind: str) -> None:
    with pytest.raises(MediaError):
        media_decode.decode(damaged(coloured_mp4)[kind], [0, 20], decoder=decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_damage_within_the_pictures_is_an_error_or_a_picture(coloured_mp4: bytes, decoder: str) -> None:
    try:
        found = media_decode.decode(damaged(coloured_mp4)["zeroed"], [0, 5, 39], decoder=decoder)
    except MediaError:
        return
    assert found.shape == (3, 48, 64, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decoder", "where"),
    [("torchcodec", "pictures"), ("decord", "pictures"), ("pyav", "pictures"), ("pyav", "anywhere")],
)
def test_flipped_bits_end_in_an_error_or_a_picture(coloured_mp4: bytes, decoder: str, where: str) -> None:
    """In a process of its own: nothing here may hang or crash. (decord does, where the bit lies in the mp4's tables.)"""
    code = """
import sys
import numpy as np
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import decode
mp4, random = sys.stdin.buffer.read(), np.random.default_rng(0)
decoder, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for _ in range(60):
    broken = bytearray(mp4)
    for place in random.integers(first, last, random.integers(1, 20)):
        broken[place] ^= 1 << random.integers(8)
    try:
        assert decode.decode(bytes(broken), [0, 20, 39], decoder=decoder).shape[0] == 3
    except MediaError:
        pass
"""
    first, last = coloured_mp4.index(b"mdat") + 4, coloured_mp4.index(b"moov") - 4
    bounds = (first, last) if where == "pictures" else (8, len(coloured_mp4))
    argv = [sys.executable, "-c", code, decoder, *map(str, bounds)]
    subprocess.run(argv, input=coloured_mp4, check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_playlist_in_a_shard_opens_no_address(decoder: str) -> None:
    """In a process of its own: decord would wait for the address for ever, and no one could stop it."""
    code = """
import sys
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import decode
try:
    decode.decode(sys.stdin.buffer.read(), [0], decoder=sys.argv[1])
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


def box(mp4: bytes, name: bytes) -> int:
    """Where a box's content begins."""
    return mp4.rindex(name) + 4  # the tables are last; an avc1 in the head is a brand


def with_numbers(mp4: bytes, place: int, *numbers: int) -> bytes:
    return mp4[:place] + struct.pack(f">{len(numbers)}I", *numbers) + mp4[place + 4 * len(numbers) :]


@pytest.mark.parametrize(
    ("name", "offset", "number", "said"),
    [
        (b"moov", -8, 2**31, "truncated: box b'moov' claims"),
        (b"moov", -8, 7, "truncated: box b'moov' claims 7 bytes"),
        (b"stbl", -4, 0, "there is no box b'stbl'"),
        (b"avc1", -4, 0, "there is no box b'avc1'"),
        (b"stsz", -4, 0, r"lack the tables \[b'stsz'\]"),
        (b"stts", -4, int.from_bytes(b"ctts"), "have B-frames"),
        (b"stsz", 8, 2**32 - 1, "buffer is smaller"),
        (b"stsz", 4, 2**20, "truncated"),
        (b"stsz", 12, 2**31, "truncated"),
        (b"stsz", 8, 0, "empty or out of order"),
        (b"stsz", 8, COUNT - 1, "contradict"),
        (b"stco", 8, 2**31, "truncated"),
        (b"stsc", 4, 0, "empty or out of order"),
        (b"stsc", 8, 2, "empty or out of order"),
        (b"stsc", 12, 2**31, "contradict"),
        (b"stss", 8, 2, "begin with a keyframe"),
        (b"stss", 12, 1, "begin with a keyframe"),
    ],
)
def test_tables_that_cannot_be_are_told(coloured_mp4: bytes, name: bytes, offset: int, number: int, said: str) -> None:
    broken = with_numbers(coloured_mp4, box(coloured_mp4, name) + offset, number)

    with pytest.raises(MediaError, match=said):
        media_decode.decode(broken, [0, 20], decoder="pyav")


def test_a_table_of_one_size_for_all_is_bounded(tmp_path: Path) -> None:
    """Such a table takes four bytes for any number of frames: the number must not be believed."""
    mp4 = stored(tmp_path, np.zeros((1, 48, 64, 3), np.uint8))
    at = box(mp4, b"stsz") + 4
    assert struct.unpack_from(">II", mp4, at)[1] == 1

    with pytest.raises(MediaError, match="truncated"):
        media_decode.decode(with_numbers(mp4, at, 1, 2**32 - 1), [0], decoder="pyav")


def test_a_picture_that_claims_too_much_is_refused(coloured_mp4: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pyav, "MAX_PIXELS", 48 * 64 - 1)

    with pytest.raises(MediaError):
        media_decode.decode(coloured_mp4, [0], decoder="pyav")
    monkeypatch.undo()
    assert media_decode.decode(coloured_mp4, [0], decoder="pyav").shape == (1, 48, 64, 3)


def test_what_is_not_installed_is_told(ramp_mp4: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)

    with pytest.raises(MediaError, match=r"torchcodec is not installed .* install torchcodec, or choose auto or pyav"):
        media_decode.decode(ramp_mp4, [0], decoder="torchcodec")


class TestAuto:
    @pytest.fixture(autouse=True)
    def _unmeasured(self) -> Iterator[None]:
        media_decode.measured.cache_clear()
        yield
        media_decode.measured.cache_clear()

    def watch(self, monkeypatch: pytest.MonkeyPatch, **seconds: float) -> list[str]:
        """Let every decoder tell that it is called, and take so long; what has no time is not installed."""
        called: list[str] = []
        pyav = frames

        def made(name: str) -> Callable[[bytes, list[int]], np.ndarray]:
            def decode(mp4: bytes, numbers: list[int]) -> np.ndarray:
                called.append(name)
                if name not in seconds:
                    raise ImportError(name)
                return pyav(mp4, numbers)

            return decode

        def took(decoder: Callable[[bytes, list[int]], np.ndarray], mp4: bytes, numbers: list[int]) -> float:
            decoder(mp4, numbers)
            return seconds[called[-1]]

        for name in DECODERS:
            monkeypatch.setattr(plugins.load(media_decode.__name__, name), "frames", made(name))
        monkeypatch.setattr(media_decode, "_seconds", took)
        monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
        return called

    @pytest.mark.parametrize("best", DECODERS)
    def test_takes_the_fastest_and_measures_once(
        self, ramp_mp4: bytes, best: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        called = self.watch(monkeypatch, **{"torchcodec": 2.0, "decord": 3.0, "pyav": 4.0, best: 1.0})
        media_decode.decode(ramp_mp4, [3])
        del called[:]

        assert shown(media_decode.decode(ramp_mp4, [5, 7])) == [5, 7]
        assert called == [best]

    def test_does_without_what_is_not_installed(self, ramp_mp4: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watch(monkeypatch, pyav=1.0)

        assert media_decode.fastest(ramp_mp4, [0]) == "pyav"

    def test_does_not_take_what_shows_something_else(self, ramp_mp4: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watch(monkeypatch, decord=1.0, pyav=2.0)
        assert media_decode.fastest(ramp_mp4, [0]) == "decord"
        module = plugins.load(media_decode.__name__, "decord")
        decord = module.frames
        monkeypatch.setattr(module, "frames", lambda mp4, numbers: decord(mp4, numbers) + np.uint8(1))

        assert media_decode.fastest(ramp_mp4, [0]) == "pyav"

    def test_a_clip_that_the_fastest_refuses_is_pyavs_to_judge(self, tmp_path: Path) -> None:
        small = stored(tmp_path, np.zeros((2, 36, 48, 3), np.uint8))
        media_decode.measured().append("decord")
        with pytest.raises(MediaError, match="decord cannot decode"):
            media_decode.decode(small, [1, 0], decoder="decord")

        assert media_decode.decode(small, [1, 0]).shape == (2, 36, 48, 3)

    @pytest.mark.parametrize("choice", DECODERS)
    def test_says_what_pyav_says_of_damage(self, coloured_mp4: bytes, choice: str) -> None:
        media_decode.measured().append(choice)

        with pytest.raises(MediaError, match="requested from a stored clip of 40"):
            media_decode.decode(coloured_mp4, [COUNT])
        with pytest.raises(MediaError, match="truncated"):
            media_decode.decode(coloured_mp4[:-200], [0])

    def test_a_first_clip_that_is_damaged_decides_nothing(self, ramp_mp4: bytes) -> None:
        with pytest.raises(MediaError):
            media_decode.decode(ramp_mp4[:-200], [0])

        assert media_decode.measured() == []


def test_torch_is_not_imported_unless_torchcodec_is_chosen(ramp_mp4: bytes) -> None:
    code = """
import sys
from kinetics_sounds.media import decode
mp4 = sys.stdin.buffer.read()
for decoder in ("auto", "decord", "pyav"):
    decode.decode(mp4, [0, 20], decoder=decoder)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], input=ramp_mp4, check=True, timeout=60, capture_output=True)


def jpegs(count: int, *, height: int = 48, width: int = 64) -> list[bytes]:
    """Frame n is one grey of level 10 + 6n."""
    levels = (10 + 6 * np.arange(count)).astype(np.uint8)
    return [encode_jpeg(np.full((height, width, 3), level, np.uint8), quality=90) for level in levels]


class TestJpegs:
    def test_come_in_their_order(self) -> None:
        stored = jpegs(5)
        found = media_decode.decode_jpegs([stored[number] for number in (4, 0, 0, 2)])

        assert shown(found) == [4, 0, 0, 2]
        assert found.shape == (4, 48, 64, 3)
        assert found.dtype == np.uint8

    def test_red_is_first_and_an_odd_size_is_kept(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (35, 51, 3), dtype=np.uint8)
        image[..., 0] = 255
        jpeg = encode_jpeg(image, quality=95)

        assert np.array_equal(media_decode.decode_jpegs([jpeg])[0], decode_jpeg(jpeg))
        assert media_decode.decode_jpegs([jpeg])[0, ..., 0].mean() > 200

    @pytest.mark.parametrize(
        ("stored", "said"),
        [
            ([], "no JPEG was requested"),
            ([b""], "JPEG 0 does not decode"),
            ([*jpegs(1), b"no picture"], "JPEG 1 does not decode"),
            ([*jpegs(1), jpegs(1)[0][:-200]], "JPEG 1 does not decode"),
            ([*jpegs(2), *jpegs(1, width=66)], "JPEG 2 is 66 x 48, the first 64 x 48"),
        ],
        ids=["none", "empty", "garbage", "cut short", "other size"],
    )
    def test_what_does_not_decode_is_told(self, stored: list[bytes], said: str) -> None:
        with pytest.raises(MediaError, match=said):
            media_decode.decode_jpegs(stored)

    def test_a_claim_of_65500_x_65500_is_refused_before_it_is_decoded(self) -> None:
        claim = bytearray(jpegs(1)[0])
        at = claim.index(b"\xff\xc0") + 5  # start of frame: length, precision, height, width
        claim[at : at + 4] = struct.pack(">HH", 65500, 65500)

        with pytest.raises(MediaError, match="65500 x 65500, more than 8388608 pixels"):
            media_decode.decode_jpegs([bytes(claim)])


def test_more_frames_than_are_decoded_at_a_time_are_refused_before_they_take_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jpeg = media_decode.encode_jpeg(np.zeros((36, 48, 3), dtype=np.uint8))
    monkeypatch.setattr(media_mp4, "MOST_BYTES", 2 * 36 * 48 * 3)

    assert media_decode.decode_jpegs([jpeg, jpeg]).shape == (2, 36, 48, 3)
    with pytest.raises(MediaError, match="3 frames of 48 x 36 take more than"):
        media_decode.decode_jpegs([jpeg] * 3)
