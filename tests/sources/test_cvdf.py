"""A mirror made here, with the faults that servers and archives have, and what must come of it."""

import errno
import gzip
import hashlib
import io
import itertools
import os
import pickle
import re
import socket
import tarfile
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import stamina
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetics_sounds import sources, web
from kinetics_sounds.archives import common, http_stream, reader, tar_stream
from kinetics_sounds.clip import FetchResult, Status
from kinetics_sounds.errors import SourceError
from kinetics_sounds.retry import Backoff
from kinetics_sounds.sources import PartError, TarPart, UnreachableError, cvdf

from .tar_site import CLIPS, END, PLAIN, TWICE_ZIPPED, ZIPPED, File, Site, Step, header, key, member, noise, pax, signed


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_stream, "BACKOFF", replace(http_stream.BACKOFF, longest_seconds=0.001))
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", 5.0)


class Everything:
    """Wants all keys."""

    def __contains__(self, _key: object) -> bool:
        return True


def source(site: Site) -> cvdf.Source:
    return cvdf.Source(site.base)


def stream(part: TarPart, wanted: Container[str], folder: Path) -> Iterator[tuple[str, FetchResult | None]]:
    """A part as its source streams it, whose host the user named."""
    named = part.place.rpartition("/")[0] if part.place.startswith("http") else ""
    return cvdf.Source(named).stream(part, wanted, folder)


def drained(
    part: TarPart, folder: Path, wanted: Container[str] | None = None
) -> tuple[dict[str, bytes | str], PartError | None]:
    """Each key with its bytes, or why it has none, and the error at the end; sees that no clip is given twice."""
    found: dict[str, bytes | str] = {}
    try:
        for name, fetched in stream(part, wanted or Everything(), folder):
            if fetched is None:
                assert wanted is not None
                assert name not in wanted
                continue
            assert name not in found
            if fetched.path is None:
                assert fetched.status is Status.CORRUPT
                found[name] = fetched.detail
            else:
                assert fetched.status is Status.OK
                assert [fetched.path] == list(folder.iterdir())  # one clip on disk and nothing else
                found[name] = fetched.path.read_bytes()
                fetched.path.unlink()
    except PartError as error:
        assert list(folder.iterdir()) == []
        return found, error
    assert list(folder.iterdir()) == []
    return found, None


def broken(part: TarPart, folder: Path) -> tuple[int, Status, str]:
    """How many whole clips came before a part broke off, and how it broke."""
    found, error = drained(part, folder)
    assert error is not None
    assert found == dict(list(CLIPS.items())[: len(found)])
    return len(found), error.status, str(error)


def on_disk(path: Path, data: bytes) -> TarPart:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return TarPart(path.name, str(path), None, replacement=False)


# Which parts there are.


def test_the_official_place_is_the_default_and_its_size_is_told() -> None:
    official = sources.load("cvdf")

    assert isinstance(official, cvdf.Source)
    assert official.base == "https://s3.amazonaws.com/kinetics/400"
    assert "436 GB" in official.notice
    assert official.versions == ""


def test_parts_come_in_list_order_after_the_replacement_archive(site: Site) -> None:
    site.put("replacement_for_corrupted_k400.tgz", PLAIN)
    site.put(
        "train/k400_train_path.txt",
        f"\ufeff{site.base}/train/part_1.tar.gz\r\n\r\n# mended\r\npart_0.tar.gz\r\n../elsewhere/a b.tar\r\n".encode(),
    )
    site.lists("val", "http://mirror.example.org/deep/part_0.tar.gz?token=secret", f"{site.base}/val/part_0.tar.gz")

    assert source(site).parts(["train", "val"]) == [
        TarPart(
            "replacement_for_corrupted_k400.tgz",
            f"{site.base}/replacement_for_corrupted_k400.tgz",
            None,
            replacement=True,
        ),
        TarPart("train/part_1.tar.gz", f"{site.base}/train/part_1.tar.gz", "train", replacement=False),
        TarPart("train/part_0.tar.gz", f"{site.base}/train/part_0.tar.gz", "train", replacement=False),
        TarPart(
            f"train/{site.base}/elsewhere/a%20b.tar", f"{site.base}/elsewhere/a%20b.tar", "train", replacement=False
        ),
        TarPart(
            "val/http://mirror.example.org/deep/part_0.tar.gz",
            "http://mirror.example.org/deep/part_0.tar.gz?token=secret",
            "val",
            replacement=False,
        ),
        TarPart("val/part_0.tar.gz", f"{site.base}/val/part_0.tar.gz", "val", replacement=False),
    ]


def test_a_part_listed_twice_is_read_once_and_two_that_differ_in_their_query_have_two_names(site: Site) -> None:
    site.lists("val", "get?part=1", "get?part=2", "get?part=1")

    names = [part.name for part in source(site).parts(["val"])]

    assert names == ["val/get", f"val/get?{hashlib.sha256(f'{site.base}/val/get?part=2'.encode()).hexdigest()[:8]}"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("file:///etc/passwd", "not an http or https"),
        ("ftp://example.org/part.tar", "not an http or https"),
        ("data:application/x-tar;base64,AAAA", "not an http or https"),
        ("https://", "not an http or https"),
        ("http://[::1", "is not a URL"),
        ("http://a..b/part.tar", "is not a URL"),
        ("http://example.org:port/part.tar", "is not a URL"),
        ("https://me:secret@example.org/part.tar", "contains a password"),
        ("http://169.254.169.254/latest/meta-data", "private network"),
        ("http://10.0.0.1/part.tar", "private network"),
        ("http://nas.lan/part.tar", "private network"),
        ("http://sub.localhost/part.tar", "private network"),
        ("http://127.2/part.tar", "private network"),
        ("http://2130706434/part.tar", "private network"),
        ("http://[::ffff:127.0.0.1]/part.tar", "private network"),
        ("//192.168.0.1/part.tar", "private network"),
    ],
)
def test_a_list_cannot_point_to_files_or_into_private_networks(site: Site, line: str, why: str) -> None:
    site.lists("val", "part_0.tar.gz", line)

    with pytest.raises(SourceError, match=rf"k400_val_path\.txt:2: .*{why}") as raised:
        source(site).parts(["val"])

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "lists no part.*leave val out with --splits"),
        (b"\n# nothing yet\n", "lists no part"),
        (b"\xff\xfe", "cannot be read.*--source cvdf:DIR"),
        (b"<!DOCTYPE html>\n<html></html>", "is a web page.*--source cvdf:DIR"),
        (b"a.tar\n" * 200_000, "larger than 1 MiB"),
    ],
)
def test_a_list_that_is_none_is_named_with_a_remedy(site: Site, data: bytes, why: str) -> None:
    site.put("val/k400_val_path.txt", data)

    with pytest.raises(SourceError, match=f"{re.escape(site.base)}/val/k400_val_path.txt: .*{why}"):
        source(site).parts(["val"])


def test_a_missing_list_is_named_with_a_remedy(site: Site) -> None:
    with pytest.raises(SourceError, match=f"{re.escape(site.base)}/test/k400_test_path.txt: .*404.*--source cvdf:DIR"):
        source(site).parts(["test"])


def test_a_server_that_does_not_answer_is_named_with_a_remedy() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        base = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(SourceError, match=f"{base}/test/k400_test_path.txt: .*refused.*--source cvdf:DIR"):
            cvdf.Source(base).parts(["test"])


def test_a_list_whose_connection_breaks_is_read_to_its_end(site: Site) -> None:
    lines = [f"part_{number}.tar.gz" for number in range(100)]
    site.lists("val", *lines)
    site.files["/kinetics/400/val/k400_val_path.txt"].steps = [Step(cut=100), Step()]

    assert [part.name for part in source(site).parts(["val"])] == [f"val/{line}" for line in lines]


@pytest.mark.parametrize(("code", "there"), [(404, False), (410, False), (403, True), (500, True)])
def test_a_replacement_archive_is_left_out_only_where_the_server_says_that_it_is_missing(
    site: Site, code: int, there: bool
) -> None:
    site.lists("val", "part_0.tar.gz")
    site.put("replacement_for_corrupted_k400.tgz", b"", steps=[Step(code=code)])

    assert any(part.replacement for part in source(site).parts(["val"])) == there


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ("file:///data/k400", "not an http or https"),
        ("s3://kinetics/400", "not an http or https"),
        ("https://me:secret@example.org/k400", "password"),
        ("https://example.org/k400?token=secret", "has a query or fragment"),
        ("/no/such/folder", "cannot be read"),
        (__file__, "cannot be read"),
    ],
)
def test_a_place_that_cannot_be_is_refused_at_once(argument: str, why: str) -> None:
    with pytest.raises(SourceError, match=f"--source cvdf:.*{why}") as raised:
        sources.load(f"cvdf:{argument}")

    assert "secret" not in str(raised.value)


def test_a_place_that_the_user_names_may_be_private_and_have_a_slash_at_its_end() -> None:
    assert cvdf.Source("HTTP://10.0.0.1/k400/").base == "HTTP://10.0.0.1/k400"


def test_a_folder_s_parts_are_its_archives_at_any_depth_the_replacement_first(tmp_path: Path) -> None:
    for name in (
        "train/part_1.tar.gz",
        "train/part_0.TAR",
        "val/deep/part_0.tgz",
        "z.tar",
        "test/replacement_for_corrupted_k400.tgz",
        "test/part_0.tar.gz",
        "notes.txt",
        "part_9.tar.gz.part",
    ):
        on_disk(tmp_path / name, PLAIN)
    (tmp_path / "folder.tar").mkdir()
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "loop").symlink_to(tmp_path)

    parts = cvdf.Source(str(tmp_path)).parts(["train", "val"])

    assert [(part.name, part.split, part.replacement) for part in parts] == [
        ("test/replacement_for_corrupted_k400.tgz", None, True),
        ("z.tar", None, False),
        ("train/part_0.TAR", "train", False),
        ("train/part_1.tar.gz", "train", False),
        ("val/deep/part_0.tgz", "val", False),
    ]
    assert all(Path(part.place) == tmp_path / part.name for part in parts)


def test_a_folder_without_parts_is_named_with_a_remedy(tmp_path: Path) -> None:
    on_disk(tmp_path / "train" / "part_0.tar.gz", PLAIN)

    with pytest.raises(SourceError, match=f"{tmp_path}: has no part of val.*give the folder"):
        cvdf.Source(str(tmp_path)).parts(["val"])


# What a part gives, from a server and from a folder.


@pytest.fixture(params=["url", "dir"])
def serve(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> Callable[[bytes], TarPart]:
    def place(data: bytes) -> TarPart:
        return site.part(data)[0] if request.param == "url" else on_disk(tmp_path / "parts" / "part_0.tar.gz", data)

    return place


@pytest.mark.parametrize("data", [PLAIN, ZIPPED, TWICE_ZIPPED], ids=["tar", "gzip", "gzips"])
def test_packing_is_told_by_the_first_bytes_and_not_by_the_name(
    serve: Callable[[bytes], TarPart], scratch: Path, data: bytes
) -> None:
    assert drained(serve(data), scratch) == (CLIPS, None)


@pytest.mark.parametrize("size", [1, 511])
@pytest.mark.parametrize("data", [PLAIN, ZIPPED, TWICE_ZIPPED], ids=["tar", "gzip", "gzips"])
def test_how_the_bytes_come_in_pieces_does_not_matter(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, size: int
) -> None:
    monkeypatch.setattr(common, "CHUNK_BYTES", size)

    assert drained(on_disk(tmp_path / "part.tar", data), scratch) == (CLIPS, None)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("folder", [".", "home/someone/kinetics", "/" + "a" * 90 + "/" + "b" * 30, "ä" * 60])
def test_every_form_of_tar_and_every_depth_gives_the_clips(
    serve: Callable[[bytes], TarPart], scratch: Path, form: int, folder: str
) -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=form) as tar:
        for name, data in CLIPS.items():
            entry = tarfile.TarInfo(f"{folder}/{name}.mp4")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

    assert drained(serve(written.getvalue()), scratch) == (CLIPS, None)


def test_only_regular_files_named_as_clips_count_and_nothing_is_written_elsewhere(
    serve: Callable[[bytes], TarPart], scratch: Path, tmp_path: Path
) -> None:
    out = str(scratch.parent).encode()
    link, hard, device, pipe, folder = (key(number, "-link") for number in range(5))
    claimed = header(f"{key(9, 'x')}.mp4".encode(), 4096, kind=b"1", link=b"/etc/passwd")  # 8 blocks that are not there
    data = b"".join(
        (
            member("./", kind=b"5"),
            member(f"{link}.mp4", kind=b"2", link=b"/etc/passwd"),
            member(f"{hard}.mp4", kind=b"1", link=b"/etc/passwd"),
            member(f"{device}.mp4", kind=b"3"),
            member(f"{pipe}.mp4", kind=b"6"),
            member(f"{folder}.mp4", kind=b"5"),
            claimed,
            member(f"../../{key(1, '-up')}.mp4", b"up"),
            member(f"/tmp/{key(2, 'abs')}.MKV", b"absolute"),
            member("trap", kind=b"2", link=b".."),
            member(f"trap/{key(3, 'via')}.webm", b"via a link"),
            pax(path=f"../../../{key(4, 'pax')}.avi", linkpath="/etc/passwd"),
            member("harmless.txt", b"pax"),
            member("././@LongLink", out + f"/{key(5, 'gnu')}.mp4\0".encode(), kind=b"L"),
            member("././@LongLink", b"/etc/passwd\0", kind=b"K"),
            member("harmless.txt", b"gnu"),
            pax(comment="x") + member(f"{key(6, 'odd')}.mp4", b"contiguous", kind=b"7"),
            member(f"{key(7, 'old')}.mp4", b"V7", kind=b"\0"),
            member(f"{key(1)}.mp4\n", b"no"),
            member(f"{key(1)} .mp4", b"no"),
            member(f" {key(1)}.mp4", b"no"),
            member(f"ä{key(1)}.mp4", b"no"),
            member(f"..\\{key(1)}.mp4", b"no"),
            member(f"._{key(1)}.mp4", b"no"),
            member(f"{key(1)}.mp4.exe", b"no"),
            member(f"{key(1)}.mp4/", b"no"),
            member(f"{key(1)}", b"no"),
            member("clip_1_11.mp4", b"no"),
            pax(path=f"{key(1)}.mp4\0.txt".encode()) + member("x", b"no"),
            member("K" * 40, b"unknown type", kind=b"Z"),
            member(f"{key(2)}.mp4", b"not a video at all"),
            member(f"deep/{key(2)}.mp4", b"the same again"),
            member(f"{key(2)}.mkv", b"and again"),
            END,
        )
    )
    part = serve(data)
    before = sorted(tmp_path.rglob("*"))

    assert drained(part, scratch) == (
        {
            key(1, "-up"): b"up",
            key(2, "abs"): b"absolute",
            key(3, "via"): b"via a link",
            key(4, "pax"): b"pax",
            key(5, "gnu"): b"gnu",
            key(6, "odd"): b"contiguous",
            key(7, "old"): b"V7",
            key(2): b"not a video at all",
        },
        None,
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_is_named_by_key_and_container_in_the_folder_given(site: Site, scratch: Path) -> None:
    part, _ = site.part(member(f"../{key(1, '-')}.MkV", b"clip") + END)

    assert list(source(site).stream(part, {key(1, "-")}, scratch)) == [
        (key(1, "-"), FetchResult(status=Status.OK, path=scratch / f"{key(1, '-')}.mkv"))
    ]


def test_a_clip_that_a_part_holds_twice_comes_once_and_nothing_is_written_over(
    serve: Callable[[bytes], TarPart], scratch: Path
) -> None:
    """Whatever folder the other lies in, and however its ending is spelt."""
    others = [
        member(f"{folder}{key(1)}.{ending}", b"other") for folder, ending in (("", "MP4"), ("x/", "mp4"), ("", "mkv"))
    ]
    part = serve(member(f"{key(1)}.mp4", b"first") + b"".join(others) + END)

    given = list(stream(part, {key(1)}, scratch))

    assert [name for name, _ in given] == [key(1)]
    assert {path.name: path.read_bytes() for path in scratch.iterdir()} == {f"{key(1)}.mp4": b"first"}


def test_only_the_wanted_clips_are_given(serve: Callable[[bytes], TarPart], scratch: Path) -> None:
    wanted = {key(3), key(7), key(99)}

    assert drained(serve(ZIPPED), scratch, wanted) == ({name: CLIPS[name] for name in (key(3), key(7))}, None)


def test_the_other_clips_are_named_without_a_file(serve: Callable[[bytes], TarPart], scratch: Path) -> None:
    named = dict(stream(serve(ZIPPED), {key(3)}, scratch))

    assert set(named) == set(CLIPS)
    assert [name for name, fetched in named.items() if fetched is not None] == [key(3)]


def test_an_empty_or_huge_or_sparse_clip_is_corrupt_unless_a_sound_one_follows(
    serve: Callable[[bytes], TarPart], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cvdf, "MAX_CLIP_BYTES", 1000)
    sparse = bytearray(header(f"{key(6)}.mp4".encode(), 3, kind=b"S"))
    sparse[482] = 1  # two more blocks of holes follow
    holes = signed(sparse) + bytes(504) + b"\1" + bytes(7) + bytes(512) + b"abc" + bytes(509)
    data = b"".join(
        (
            member(f"{key(1)}.mp4"),
            member(f"{key(2)}.mp4"),
            member(f"{key(3)}.mp4", bytes(1001)),
            member(f"{key(4)}.mp4", bytes(1000)),
            pax(GNU__sparse__major="1", GNU__sparse__name=f"deep/{key(5)}.mp4", path="GNUSparseFile.0/cut off")
            + member("x", b"map"),
            holes,
            member(f"{key(2)}.mp4", b"sound"),
            END,
        )
    )

    found, error = drained(serve(data), scratch)

    assert error is None
    assert {name: value for name, value in found.items() if isinstance(value, bytes)} == {
        key(4): bytes(1000),
        key(2): b"sound",
    }
    faults = {name: value for name, value in found.items() if isinstance(value, str)}
    assert list(faults) == [key(1), key(3), key(5), key(6)]
    for (name, text), fault in zip(faults.items(), ("empty", "1001 bytes", "sparse", "sparse"), strict=True):
        assert name in text
        assert fault in text


def test_sizes_beyond_octal_are_read(serve: Callable[[bytes], TarPart], scratch: Path) -> None:
    binary = bytearray(header(f"{key(1)}.mp4".encode(), 0))
    binary[124:136] = b"\x80" + (5).to_bytes(11, "big")
    signed_sum = bytearray(header(f"ä/{key(3)}.mp4".encode(), 2))
    signed_sum[148:156] = b" " * 8
    total = sum(byte - 256 * (byte > 127) for byte in signed_sum)
    signed_sum[148:156] = b"%06o\0 " % total
    data = b"".join(
        (
            signed(binary) + b"12345" + bytes(507),
            pax(size="3") + header(f"{key(2)}.mp4".encode(), 0) + b"123" + bytes(509),
            bytes(signed_sum) + b"12" + bytes(510),
            END,
        )
    )

    assert drained(serve(data), scratch) == ({key(1): b"12345", key(2): b"123", key(3): b"12"}, None)


def test_a_source_that_gives_the_replacement_too_gives_it_as_a_part(site: Site, scratch: Path) -> None:
    mended = member(f"replacement/{key(1)}.mp4", b"mended") + END
    site.put("replacement_for_corrupted_k400.tgz", gzip.compress(mended))
    site.lists("val", "part_0.tar.gz")

    first = source(site).parts(["val"])[0]

    assert (first.replacement, drained(first, scratch)) == (True, ({key(1): b"mended"}, None))


def test_a_whole_part_is_asked_for_once(site: Site, scratch: Path) -> None:
    part, file = site.part(ZIPPED)

    drained(part, scratch)

    assert file.asked == [""]


# Connections that break.


@pytest.mark.parametrize("packed", [False, True], ids=["tar", "gzip"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(("etag", "ranges"), [("strong", True), ("strong", False), ("weak", True), ("none", True)])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(
        st.tuples(st.integers(0, 26_000), st.sampled_from(["close", "reset"])), max_size=http_stream.ATTEMPTS - 2
    )
)
def test_a_connection_that_breaks_anywhere_loses_and_doubles_nothing(
    site: Site,
    tmp_path: Path,
    packed: bool,
    framing: str,
    etag: str,
    ranges: bool,
    cuts: list[tuple[int, str]],
) -> None:
    steps = [*(Step(cut=cut, then=then) for cut, then in cuts), Step()]
    part, _ = site.part(ZIPPED if packed else PLAIN, steps=steps, framing=framing, etag=etag, ranges=ranges)
    folder = tmp_path / "scratch"
    folder.mkdir(exist_ok=True)

    assert drained(part, folder) == (CLIPS, None)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_broken_download_goes_on_at_the_byte_where_it_broke(site: Site, scratch: Path, framing: str) -> None:
    part, file = site.part(PLAIN, steps=[Step(cut=5000), Step(cut=6000), Step()], framing=framing)

    assert drained(part, scratch) == (CLIPS, None)
    assert file.asked == ["", "5000-", "11000-"]


@pytest.mark.parametrize(("etag", "ranges"), [("strong", False), ("weak", True), ("none", True)])
def test_a_file_is_read_again_and_compared_where_its_version_cannot_be_named(
    site: Site, scratch: Path, etag: str, ranges: bool
) -> None:
    part, file = site.part(PLAIN, steps=[Step(cut=5000), Step()], etag=etag, ranges=ranges)

    assert drained(part, scratch) == (CLIPS, None)
    assert file.asked == ["", "5000-" if etag == "strong" else ""]


def test_a_server_that_answers_another_range_is_not_believed(site: Site, scratch: Path) -> None:
    part, file = site.part(PLAIN, steps=[Step(cut=5000), Step(answer_range="bytes=4096-"), Step()])

    assert drained(part, scratch) == (CLIPS, None)
    assert file.asked == ["", "5000-", ""]


OTHER = b"".join(member(f"new/{name}.mp4", data[::-1]) for name, data in CLIPS.items()) + END


@pytest.mark.parametrize("etag", ["strong", "weak", "none"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changed_before_it_gave_a_clip_is_begun_again(
    site: Site, scratch: Path, etag: str, ranges: bool
) -> None:
    part, _ = site.part(PLAIN, steps=[Step(cut=600), Step(swap=OTHER)], etag=etag, ranges=ranges)

    assert drained(part, scratch) == ({name: data[::-1] for name, data in CLIPS.items()}, None)


@pytest.mark.parametrize("etag", ["strong", "weak", "none"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("other", [OTHER, OTHER[:3000], b""], ids=["as long", "shorter", "empty"])
def test_a_file_that_changed_after_it_gave_clips_breaks_off_and_is_never_joined_to_the_old_one(
    site: Site, scratch: Path, etag: str, ranges: bool, other: bytes
) -> None:
    part, _ = site.part(PLAIN, steps=[Step(cut=12_000), Step(swap=other)], etag=etag, ranges=ranges)

    count, status, text = broken(part, scratch)

    assert (count, status) == (4, Status.TRUNCATED)
    assert "on the server while it was read" in text


def test_a_file_that_only_grew_goes_on(site: Site, scratch: Path) -> None:
    more = PLAIN[: -len(END)] + member(f"{key(50)}.mp4", b"new") + END
    part, _ = site.part(PLAIN, steps=[Step(cut=12_000), Step(swap=more)])

    assert drained(part, scratch) == ({**CLIPS, key(50): b"new"}, None)


def test_a_file_that_changes_each_time_it_is_asked_for_is_given_up(site: Site, scratch: Path) -> None:
    versions = [member(f"{key(number)}.mp4", bytes(3000)) + END for number in range(20)]
    steps = [step for data in versions for step in (Step(swap=data, cut=600), Step(swap=data[::-1]))]
    part, file = site.part(b"", steps=steps)

    assert broken(part, scratch)[:2] == (0, Status.TRUNCATED)
    assert len(file.asked) <= 2 * (reader.RESTARTS + 1)


@pytest.mark.parametrize(
    ("code", "status", "requests"),
    [
        (403, Status.HTTP_4XX, 1),
        (404, Status.HTTP_4XX, 1),
        (408, Status.HTTP_4XX, http_stream.ATTEMPTS),
        (416, Status.HTTP_4XX, http_stream.ATTEMPTS),
        (429, Status.RATE_LIMITED, http_stream.ATTEMPTS),
        (500, Status.HTTP_5XX, http_stream.ATTEMPTS),
        (503, Status.HTTP_5XX, http_stream.ATTEMPTS),
    ],
)
def test_a_refusal_has_its_status_and_is_asked_again_only_where_that_may_help(
    site: Site, scratch: Path, code: int, status: Status, requests: int
) -> None:
    part, file = site.part(PLAIN, steps=[Step(code=code)])

    count, found, text = broken(part, scratch)

    assert (count, found, len(file.asked)) == (0, status, requests)
    assert text.startswith(f"part train/part_0.tar.gz ({part.place}): the server returned HTTP {code}; ")
    assert text.endswith("run again")


@pytest.mark.parametrize("code", [403, 503])
def test_a_refusal_in_the_middle_comes_after_the_clips_before_it(site: Site, scratch: Path, code: int) -> None:
    part, _ = site.part(PLAIN, steps=[Step(cut=12_000), Step(code=code)])

    assert broken(part, scratch)[:2] == (4, Status.HTTP_4XX if code == 403 else Status.HTTP_5XX)


@pytest.mark.parametrize(
    ("data", "status", "remedy"),
    [
        (PLAIN[:5000], Status.TRUNCATED, "its other clips are missing: run again"),
        (b"<html>" * 500, Status.CORRUPT, "once it is fixed there, build again with --retry retry,corrupt"),
    ],
    ids=["cut off", "damaged"],
)
def test_a_part_that_breaks_off_says_what_helps(
    serve: Callable[[bytes], TarPart], scratch: Path, data: bytes, status: Status, remedy: str
) -> None:
    part = serve(data)
    cut_off_on_disk = status is Status.TRUNCATED and "://" not in part.place
    if cut_off_on_disk:  # which does not heal by itself
        remedy = "copy it again, then run the same command"

    error = drained(part, scratch)[1]

    assert error is not None
    assert (error.status, error.lasts) == (status, cut_off_on_disk)
    assert str(error).endswith(remedy)


@pytest.mark.parametrize(("code", "status"), [(500, Status.HTTP_5XX), (429, Status.RATE_LIMITED)])
def test_a_list_that_the_server_fails_to_give_may_be_had_later(site: Site, code: int, status: Status) -> None:
    site.put("val/k400_val_path.txt", b"a.tar", steps=[Step(code=code)])

    with pytest.raises(UnreachableError, match="the list of parts cannot be read") as raised:
        source(site).parts(["val"])
    assert raised.value.status is status


@pytest.mark.parametrize("code", [403, 404])
def test_a_list_that_the_server_has_not_will_not_be_had_later(site: Site, code: int) -> None:
    site.put("val/k400_val_path.txt", b"a.tar", steps=[Step(code=code)])

    with pytest.raises(SourceError, match=f"HTTP {code}") as raised:
        source(site).parts(["val"])
    assert not isinstance(raised.value, UnreachableError)


def test_what_came_of_parts_is_counted_with_what_came_twice(site: Site, scratch: Path) -> None:
    part, _ = site.part(PLAIN, steps=[Step(cut=5000), Step()], etag="none")
    asked = source(site)

    assert len(list(asked.stream(part, (), scratch))) == len(CLIPS)
    assert asked.downloaded == 5000 + len(PLAIN)


def test_nothing_of_a_folder_s_part_is_downloaded(tmp_path: Path, scratch: Path) -> None:
    asked = cvdf.Source("")

    assert len(list(asked.stream(on_disk(tmp_path / "part.tar", PLAIN), (), scratch))) == len(CLIPS)
    assert asked.downloaded == 0


@pytest.mark.parametrize(
    "step", [Step(code=500), Step(code=503), Step(code=429), Step(cut=9000, then="silence"), Step(cut=0, then="reset")]
)
def test_a_server_that_recovers_has_lost_nothing(
    site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", 0.5)
    part, _ = site.part(ZIPPED, steps=[Step(cut=3000), step, step, Step()])

    assert drained(part, scratch) == (CLIPS, None)


def test_a_server_that_stays_silent_times_out(site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", 0.3)
    part, file = site.part(PLAIN, steps=[Step(cut=12_000, then="silence"), Step(cut=0, then="silence")])

    assert broken(part, scratch)[:2] == (4, Status.TIMEOUT)
    assert file.asked == ["", *["12000-"] * (http_stream.ATTEMPTS - 1)]


def test_a_server_that_sends_a_byte_now_and_then_times_out(
    site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SLOW_SECONDS", 0.3)
    part, file = site.part(PLAIN, steps=[Step(cut=12_000, then="drip"), Step(cut=0, then="drip")])

    assert broken(part, scratch)[:2] == (4, Status.TIMEOUT)
    assert len(file.asked) == http_stream.ATTEMPTS


def test_a_slow_reader_is_not_taken_for_a_slow_server(
    site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SLOW_SECONDS", 0.5)
    monkeypatch.setattr(common, "CHUNK_BYTES", 1000)
    part, file = site.part(PLAIN)
    found = []
    for name, _ in source(site).stream(part, CLIPS, scratch):
        time.sleep(0.1)
        found.append(name)

    assert (found, file.asked) == (list(CLIPS), [""])


def test_a_server_that_hangs_up_without_a_word_is_a_network_fault(site: Site, scratch: Path) -> None:
    part, _ = site.part(PLAIN, steps=[Step(cut=12_000, then="reset"), Step(cut=0, then="reset")])

    count, status, _ = broken(part, scratch)

    assert count <= 4  # a reset may overtake bytes
    assert status in (Status.NETWORK, Status.TRUNCATED)


def test_a_server_that_nobody_answers_for_is_a_network_fault(scratch: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{unused.getsockname()[1]}/part_0.tar"
        assert broken(TarPart("a", place, None, replacement=False), scratch)[:2] == (0, Status.NETWORK)


def test_a_body_shorter_than_announced_is_truncated_though_the_tar_in_it_is_whole(site: Site, scratch: Path) -> None:
    part, file = site.part(PLAIN + bytes(5000), steps=[Step(cut=len(PLAIN)), Step(cut=0)])

    assert broken(part, scratch)[:2] == (len(CLIPS), Status.TRUNCATED)
    assert len(file.asked) == http_stream.ATTEMPTS


def test_a_body_without_length_is_truncated_where_the_tar_in_it_is(site: Site, scratch: Path) -> None:
    part, _ = site.part(PLAIN, steps=[Step(cut=12_000)], framing="close")

    assert broken(part, scratch)[:2] == (4, Status.TRUNCATED)


def test_breaks_are_forgiven_while_they_bring_something(
    site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SLOW_BYTES", 1000)
    part, file = site.part(PLAIN, steps=[Step(cut=1000)])

    assert drained(part, scratch) == (CLIPS, None)
    assert len(file.asked) == -(-len(PLAIN) // 1000) > http_stream.ATTEMPTS

    part, file = site.part(PLAIN, steps=[Step(cut=999)])

    assert broken(part, scratch)[1] is Status.TRUNCATED
    assert len(file.asked) == http_stream.ATTEMPTS


def test_waits_grow_up_to_a_limit_and_have_jitter(site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = Backoff(attempts=None, first_seconds=0.004, longest_seconds=0.03, jitter_seconds=0.004)
    monkeypatch.setattr(http_stream, "BACKOFF", backoff)
    part, _ = site.part(PLAIN, steps=[Step(code=503)])
    waits: list[float] = []

    def hook(details: stamina.instrumentation.RetryDetails) -> None:
        waits.append(details.wait_for)

    stamina.instrumentation.set_on_retry_hooks([hook])
    try:
        broken(part, scratch)
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)

    assert len(waits) == http_stream.ATTEMPTS - 1
    for wait, least in zip(waits, (0.004, 0.008, 0.016, 0.03, 0.03), strict=True):
        assert least - 1e-9 <= wait <= min(least + 0.004, 0.03) + 1e-9
    assert waits[:3] != [0.004, 0.008, 0.016]


# Redirects.


def test_a_redirect_is_followed_and_its_file_resumed(site: Site, scratch: Path) -> None:
    part, _ = site.part(b"", steps=[Step(location="other.tar")])
    file = site.put("train/other.tar", PLAIN, steps=[Step(cut=5000), Step()])

    assert drained(part, scratch) == (CLIPS, None)
    assert file.asked == ["", "5000-"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/a.tar", "http://127.0.0.2:{port}/a.tar"])
def test_a_redirect_leads_to_no_file_and_into_no_private_network(site: Site, scratch: Path, location: str) -> None:
    part, _ = site.part(b"", steps=[Step(location=location.format(port=site.server_port))])
    file = site.files["/a.tar"] = File(PLAIN)

    assert broken(part, scratch)[:2] == (0, Status.HTTP_4XX)
    assert file.asked == []


def test_a_part_that_was_given_a_file_s_url_is_not_opened(scratch: Path, tmp_path: Path) -> None:
    on_disk(tmp_path / "part.tar", PLAIN)

    assert broken(TarPart("a", f"file://{tmp_path}/part.tar", None, replacement=False), scratch)[0] == 0


def test_a_redirect_s_own_body_is_not_read(site: Site, scratch: Path) -> None:
    part, _ = site.part(b"", steps=[Step(location="other.tar", then="drip")])  # of which there is no end
    site.put("train/other.tar", PLAIN)

    assert drained(part, scratch) == (CLIPS, None)


# Archives that are damaged.


@pytest.mark.parametrize("size", [len(ZIPPED) - 1, len(ZIPPED) - 8, len(ZIPPED) - 9, 20_000, 3000, 1])
def test_a_gzip_that_is_cut_off_gives_the_clips_before_the_cut(
    serve: Callable[[bytes], TarPart], scratch: Path, size: int
) -> None:
    count, status, _ = broken(serve(ZIPPED[:size]), scratch)

    assert status is Status.TRUNCATED
    whole = zlib.decompressobj(wbits=31).decompress(ZIPPED[:size])
    assert count == sum(data in whole for data in CLIPS.values())


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 12_000, len(PLAIN) - 1024])
def test_a_tar_that_is_cut_off_gives_the_clips_before_the_cut(
    serve: Callable[[bytes], TarPart], scratch: Path, size: int
) -> None:
    count, status, _ = broken(serve(PLAIN[:size]), scratch)

    assert status is Status.TRUNCATED
    assert count == sum(data in PLAIN[:size] for data in CLIPS.values())


def test_a_gzip_whose_checksum_is_wrong_is_corrupt_after_its_clips(
    serve: Callable[[bytes], TarPart], scratch: Path
) -> None:
    wrong = ZIPPED[:-8] + bytes(4) + ZIPPED[-4:]

    assert broken(serve(wrong), scratch)[:2] == (len(CLIPS), Status.CORRUPT)


def test_a_gzip_damaged_inside_gives_the_clips_before_the_damage(
    serve: Callable[[bytes], TarPart], scratch: Path
) -> None:
    packer = zlib.compressobj(wbits=31)
    before = packer.compress(PLAIN[:12_000]) + packer.flush(zlib.Z_FULL_FLUSH)

    assert broken(serve(before + b"\xff" * 5000), scratch)[:2] == (4, Status.CORRUPT)


@pytest.mark.parametrize(
    "garbage", [noise(0, 3000), bytes(3000), b"\x1f", PLAIN], ids=["noise", "zeros", "half", "tar"]
)
@pytest.mark.parametrize("data", [PLAIN, ZIPPED], ids=["tar", "gzip"])
def test_what_follows_the_end_mark_is_passed_over(
    serve: Callable[[bytes], TarPart], scratch: Path, data: bytes, garbage: bytes
) -> None:
    assert drained(serve(data + garbage), scratch) == (CLIPS, None)


def test_a_download_that_breaks_in_what_follows_has_broken(site: Site, scratch: Path) -> None:
    part, _ = site.part(ZIPPED + noise(0, 3000), steps=[Step(cut=len(ZIPPED) + 10), Step(code=500)])

    assert broken(part, scratch)[:2] == (len(CLIPS), Status.HTTP_5XX)


@pytest.mark.parametrize("data", [END, bytes(10240), gzip.compress(END), bytes(512)], ids=["two", "20", "gzip", "one"])
def test_a_tar_without_members_has_no_clips(serve: Callable[[bytes], TarPart], scratch: Path, data: bytes) -> None:
    assert drained(serve(data), scratch) == ({}, None)


@pytest.mark.parametrize("data", [b"", gzip.compress(b"")], ids=["nothing", "gzip of nothing"])
def test_a_part_without_a_byte_is_no_tar(serve: Callable[[bytes], TarPart], scratch: Path, data: bytes) -> None:
    assert broken(serve(data), scratch)[:2] == (0, Status.TRUNCATED)


def test_a_web_page_is_no_part(serve: Callable[[bytes], TarPart], scratch: Path) -> None:
    count, status, text = broken(serve(b"<html>Sign in to this network</html>" * 100), scratch)

    assert (count, status) == (0, Status.CORRUPT)
    assert "neither a tar nor a gzip" in text


FIRST = member(f"{key(1)}.mp4", CLIPS[key(1)])
SECOND = member(f"{key(2)}.mp4", CLIPS[key(2)])


def test_a_damaged_header_is_told_of_where_tarfile_would_see_the_end(
    serve: Callable[[bytes], TarPart], scratch: Path
) -> None:
    data = FIRST + b"?" + SECOND[1:] + END
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as tar:
        assert len(tar.getnames()) == 1  # and no error: why the walker is ours

    assert broken(serve(data), scratch)[:2] == (1, Status.CORRUPT)


def with_size(field_: bytes) -> bytes:
    block = bytearray(header(b"x", 0))
    block[124:136] = field_
    return signed(block)


@pytest.mark.parametrize(
    "bad",
    [
        bytes(512) + SECOND,
        with_size(b"-0000000001\0"),
        with_size(b"0000000009x\0"),
        with_size(b"\xff" * 12),
        pax(size="-5") + SECOND,
        pax(size="9" * 5000) + SECOND,
        member("x", b"99 path=short\n", kind=b"x") + SECOND,
        member("x", b"no record", kind=b"x") + SECOND,
        member("x", b"3 a=b\n", kind=b"x") + SECOND,
        header(b"x", 1 << 30, kind=b"x"),
        header(b"x", 1 << 30, kind=b"L"),
        header(b"x", 1 << 30, kind=b"g"),
    ],
    ids=[
        "lone zero block",
        "negative",
        "no octal",
        "negative in base 256",
        "pax negative",
        "pax huge",
        "pax longer than it is",
        "pax without length",
        "pax shorter than it is",
        "pax bomb",
        "name bomb",
        "global bomb",
    ],
)
def test_a_header_that_cannot_be_is_corrupt_after_the_clips_before_it(
    serve: Callable[[bytes], TarPart], scratch: Path, bad: bytes
) -> None:
    assert broken(serve(FIRST + bad + END), scratch)[:2] == (1, Status.CORRUPT)


def test_a_size_beyond_the_part_s_end_is_a_cut(serve: Callable[[bytes], TarPart], scratch: Path) -> None:
    claimed = header(f"{key(2)}.mp4".encode(), 100_000) + CLIPS[key(2)]

    assert broken(serve(FIRST + claimed), scratch)[:2] == (1, Status.TRUNCATED)


def test_a_member_that_claims_more_than_any_part_has_is_corrupt_at_once(
    serve: Callable[[bytes], TarPart], scratch: Path
) -> None:
    for size in ((1 << 40) + 512).to_bytes(11, "big"), ((1 << 63) - 1).to_bytes(11, "big"):
        started = time.monotonic()
        count, status, text = broken(serve(FIRST + with_size(b"\x80" + size) + SECOND + END), scratch)

        assert (count, status) == (1, Status.CORRUPT)
        assert "claims" in text
        assert time.monotonic() - started < 5


def test_a_part_without_an_end_is_given_up(site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gzip, so that the tar's own headers say nothing of it: what follows its end is read to its end."""
    monkeypatch.setattr(common, "MAX_PART_BYTES", 8 << 20)

    def endless() -> Iterator[bytes]:
        yield ZIPPED
        while True:
            yield noise(0, 1 << 16)

    part, _ = site.part(endless, size=1 << 50)

    count, status, text = broken(part, scratch)

    assert (count, status) == (len(CLIPS), Status.CORRUPT)
    assert "more than 8388608 bytes" in text


@pytest.mark.parametrize("name", [f"{key(2)}.mp4", f"{key(9)}.mp4", "notes"], ids=["wanted", "unwanted", "no clip"])
def test_a_member_that_is_slower_than_any_use_is_given_up(
    site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Fast enough for a connection, and not for a member of this size."""
    monkeypatch.setattr(tar_stream, "MEMBER_SECONDS", 0.3)

    def slow() -> Iterator[bytes]:
        yield FIRST + header(name.encode(), 100 << 20)
        while True:
            time.sleep(0.01)
            yield bytes(1000)

    part, _ = site.part(slow, size=100 << 20)
    started = time.monotonic()
    found, error = drained(part, scratch, {key(1), key(2)})

    assert error is not None
    assert (list(found), error.status) == ([key(1)], Status.TIMEOUT)
    assert "was incomplete after 0 seconds" in str(error)
    assert time.monotonic() - started < 3


def test_many_members_may_take_longer_than_one(site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_stream, "MEMBER_SECONDS", 0.25)

    def slow() -> Iterator[bytes]:
        for name, data in CLIPS.items():
            time.sleep(0.08)
            yield member(f"{name}.mp4", data)
        yield END

    part, _ = site.part(slow, size=len(b"".join(slow())))

    assert drained(part, scratch) == (CLIPS, None)


def test_ten_thousand_name_records_in_a_row_are_nothing_but_slow(
    serve: Callable[[bytes], TarPart], scratch: Path
) -> None:
    records = member("x", b"long name\0", kind=b"L") * 10_000

    assert drained(serve(records + pax(path=f"{key(1)}.mp4") + member("x", b"clip") + END), scratch) == (
        {key(1): b"clip"},
        None,
    )


def test_a_pax_header_of_many_records_is_read_in_linear_time(serve: Callable[[bytes], TarPart], scratch: Path) -> None:
    many = member("x", b"6 a=b\n" * 170_000, kind=b"x")
    began = time.monotonic()

    assert drained(serve(many + FIRST + END), scratch) == ({key(1): CLIPS[key(1)]}, None)
    assert time.monotonic() - began < 5


def test_a_gzip_bomb_is_refused(
    serve: Callable[[bytes], TarPart], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_stream, "FREE_EXPANSION_BYTES", 1 << 20)
    bomb = FIRST + member("zeros", bytes(8 << 20)) + SECOND + END

    count, status, text = broken(serve(gzip.compress(bomb)), scratch)

    assert (count, status) == (1, Status.CORRUPT)
    assert "bomb" in text

    monkeypatch.setattr(tar_stream, "FREE_EXPANSION_BYTES", 16 << 20)

    assert list(drained(serve(gzip.compress(bomb)), scratch)[0]) == [key(1), key(2)]


def test_a_part_of_more_clips_than_there_can_be_is_corrupt_after_the_first_of_them(
    serve: Callable[[bytes], TarPart], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_CLIPS", 5)
    part = serve(PLAIN)

    assert broken(part, scratch)[:2] == (5, Status.CORRUPT)
    asked = stream(part, (), scratch)
    assert len(list(itertools.islice(asked, 5))) == 5  # that nobody wants
    with pytest.raises(PartError, match="more than 5 clips"):
        next(asked)

    monkeypatch.setattr(reader, "MAX_CLIPS", len(CLIPS))
    assert drained(part, scratch) == (CLIPS, None)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(PLAIN) - 1), change=st.binary(min_size=1, max_size=600), packed=st.booleans())
def test_whatever_bytes_a_part_holds_it_breaks_off_or_gives_clips(
    tmp_path: Path, at: int, change: bytes, packed: bool
) -> None:
    data = ZIPPED if packed else PLAIN
    at %= len(data)
    folder = tmp_path / "scratch"
    folder.mkdir(exist_ok=True)

    found, error = drained(on_disk(tmp_path / "part.tar", data[:at] + change + data[at + len(change) :]), folder)

    assert error is not None or len(found) >= len(CLIPS) - 2  # a change may fall on clips, or spell another name


# Memory, disk and leaving.


def peak(run: Callable[[], object]) -> int:
    """The most bytes that Python held at a time on top of what it had."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_stays_flat_over_60_megabytes_of_small_members(site: Site, scratch: Path) -> None:
    count, body = 4_000, noise(1, 16_000)
    padded = body + bytes(-len(body) % 512)
    names = [key(number) for number in range(count)]

    def members() -> Iterator[bytes]:
        for name in names:
            yield header(f"{name}.mp4".encode(), len(body)) + padded
        yield END

    part, _ = site.part(members, size=count * (512 + len(padded)) + len(END))
    found: list[bool] = []

    def run() -> None:
        for _name, fetched in source(site).stream(part, set(names[::50]), scratch):
            if fetched is None:
                continue
            assert fetched.path is not None
            found.append(fetched.path.read_bytes() == body)
            fetched.path.unlink()

    assert peak(run) < 8 << 20
    assert found == [True] * 80


def test_memory_stays_flat_over_a_gzip_that_grows(tmp_path: Path, scratch: Path) -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(header(b"zeros", 48 << 20))
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(48))
    packed += packer.compress(FIRST + END) + packer.flush()
    part = on_disk(tmp_path / "part.tar.gz", packed)
    found: list[dict[str, bytes | str]] = []

    assert peak(lambda: found.append(drained(part, scratch)[0])) < 4 << 20
    assert list(found[0]) == [key(1)]


def test_memory_stays_flat_over_a_large_clip(tmp_path: Path, scratch: Path) -> None:
    part = on_disk(tmp_path / "part.tar", member(f"{key(1)}.mp4", bytes(32 << 20)) + END)

    assert peak(lambda: list(stream(part, {key(1)}, scratch))) < 4 << 20
    assert (scratch / f"{key(1)}.mp4").stat().st_size == 32 << 20


def test_a_stream_that_is_left_closes_its_connection_and_leaves_nothing(site: Site, scratch: Path) -> None:
    large = FIRST + member("zeros", bytes(64 << 20)) + END  # more than sockets buffer
    hung_up = threading.Event()

    def body() -> Iterator[bytes]:
        try:
            for at in range(0, len(large), 1 << 20):
                yield large[at : at + (1 << 20)]
        finally:
            hung_up.set()

    part, _ = site.part(body, size=len(large))
    left = source(site).stream(part, CLIPS, scratch)
    next(left)
    left.close()  # type: ignore[attr-defined]

    assert hung_up.wait(5)
    assert [path.name for path in scratch.iterdir()] == [f"{key(1)}.mp4"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_the_world_and_leaves_no_half_file(
    serve: Callable[[bytes], TarPart], scratch: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(self: Path, _target: Path) -> Path:
        raise OSError(number, os.strerror(number), str(self))

    part = serve(PLAIN)
    monkeypatch.setattr(Path, "replace", full)

    count, status, text = broken(part, scratch)

    assert (count, status) == (0, Status.DISK_FULL)
    assert str(scratch) in text


def test_a_folder_that_cannot_be_written_to_is_named(serve: Callable[[bytes], TarPart], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"{tmp_path}/gone: is not writable.*give another folder"):
        list(stream(serve(PLAIN), CLIPS, tmp_path / "gone"))


def test_a_stale_file_of_the_same_name_is_replaced_and_a_link_is_not_followed(
    serve: Callable[[bytes], TarPart], scratch: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (scratch / f"{key(1)}.mp4").symlink_to(precious)

    list(stream(serve(PLAIN), {key(1)}, scratch))

    assert (scratch / f"{key(1)}.mp4").read_bytes() == CLIPS[key(1)]
    assert precious.read_bytes() == b"precious"


def test_a_part_that_is_gone_from_its_folder_breaks_off(tmp_path: Path, scratch: Path) -> None:
    part = on_disk(tmp_path / "part.tar", PLAIN)
    Path(part.place).unlink()

    assert broken(part, scratch)[:2] == (0, Status.NOT_IN_SOURCE)


def test_a_part_error_says_no_secret_and_survives_the_way_between_processes(site: Site, scratch: Path) -> None:
    part = TarPart("a", f"{site.base}/gone.tar?token=secret", None, replacement=False)
    _, error = drained(part, scratch)

    copy = pickle.loads(pickle.dumps(error))

    assert isinstance(copy, PartError)
    assert isinstance(copy, SourceError)
    assert (copy.status, str(copy)) == (Status.HTTP_4XX, str(error))
    assert "secret" not in str(copy)
