"""Archives anywhere: which there are at a place, how they are read, and what a stranger's tar cannot do."""

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kinetics_sounds import hub, remote, retry, sources
from kinetics_sounds.archives import UnfinishedError, http_stream, reader
from kinetics_sounds.archives.wanted import Wanted
from kinetics_sounds.clip import Clip, FetchResult, Status
from kinetics_sounds.errors import SourceError
from kinetics_sounds.sources import PartError, TarPart, UnreachableError
from kinetics_sounds.sources.archives import Options, Source

from ..canaries import WORD
from ..hub_server import Blob, Fault, Hub, Repo
from .tar_site import END, Site, Step, member, pax

CLIP = Clip("---g-f_I2yQ", 1, 11, "people marching", "train")
VGG = "{id}_{start:06d}"
TAR = member("v/---g-f_I2yQ_000001.mp4", b"one") + member("v/other_000002.mp4", b"two") + END


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_stream, "BACKOFF", replace(http_stream.BACKOFF, longest_seconds=0.001))
    monkeypatch.setattr(http_stream, "ATTEMPTS", 2)
    short = retry.Backoff(attempts=2, first_seconds=0.01, longest_seconds=0.02)
    monkeypatch.setattr(remote, "BACKOFF", short)
    monkeypatch.setattr("kinetics_sounds.hub.SHORT_BACKOFF", short)


def source(place: str, **options: str) -> Source:
    return Source(place, Options(**options))  # type: ignore[arg-type]


def put(path: Path, data: bytes = TAR) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(parts: list[TarPart]) -> list[str]:
    return [part.name for part in parts]


def read(made: Source, part: TarPart, folder: Path, *clips: Clip) -> dict[str, bytes | str | None]:
    """Each name in a part, with the bytes or the fault of a wanted one."""
    wanted = Wanted(((clip.key, made.names(clip)) for clip in clips), depth=made.depth)
    found: dict[str, bytes | str | None] = {}
    for name, fetched in made.stream(part, wanted, folder):
        assert name not in found or found[name] is None
        found[name] = None if fetched is None else fetched.path.read_bytes() if fetched.path else fetched.detail
    return found


# --- Which archives there are -----------------------------------------------------------------------------------------


def test_a_folders_archives_at_any_depth_but_those_of_another_split(tmp_path: Path) -> None:
    for name in ("b.tgz", "a.TAR", "x/train/1.tar.gz", "val/2.tar", "val/train/3.tar", "no.zip", "replacement_a.tar"):
        put(tmp_path / name)
    (tmp_path / "folder.tar").mkdir()

    found = source(str(tmp_path)).parts(["train"])

    assert names(found) == ["a.TAR", "b.tgz", "replacement_a.tar", "val/train/3.tar", "x/train/1.tar.gz"]
    assert not any(part.replacement for part in found)  # which is the mirror's
    assert {part.split for part in found} == {None, "train"}


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("vgg_{00..02}.tar.gz", ["vgg_00.tar.gz", "vgg_01.tar.gz", "vgg_02.tar.gz"]),
        ("{train,val}/{a,b}.tar", ["train/a.tar", "train/b.tar"]),
        ("vgg_01.tar.gz", ["vgg_01.tar.gz"]),
        ("odd {name}.tar", ["odd {name}.tar"]),
        ("no_ending", ["no_ending"]),
    ],
)
def test_braces_stand_for_several_archives(place: str, parts: list[str], tmp_path: Path) -> None:
    for name in ("vgg_00.tar.gz", "vgg_01.tar.gz", "vgg_02.tar.gz", "odd {name}.tar", "no_ending"):
        put(tmp_path / name)
    for name in ("train/a.tar", "train/b.tar", "val/a.tar", "val/b.tar"):
        put(tmp_path / name)

    assert names(source(f"{tmp_path}/{place}").parts(["train"])) == parts
    assert source(f"{tmp_path}/{place}").notice == ""


def test_urls_in_braces_keep_their_query_and_tell_nothing_of_it() -> None:
    made = source(f"https://host.example/a/v_{{0..1}}.tar?sig={WORD}{{1,2}}")

    parts = made.parts(["val"])

    (query,) = {part.name.partition("?")[2] for part in parts}
    assert names(parts) == [f"v_0.tar?{query}", f"v_1.tar?{query}"]
    assert re.fullmatch("[0-9a-f]{8}", query)
    assert [part.place.partition("?")[0] for part in parts] == [f"https://host.example/a/v_{n}.tar" for n in (0, 1)]
    assert all(WORD in part.place for part in parts)
    assert made.notice


def test_a_text_file_lists_urls_one_a_line(site: Site) -> None:
    lines = "\n# comment\nb/1.tar.gz\nhttps://other.example/train/2.tar?token=a\nhttps://other.example/train/2.tar?token=b\n"
    site.put("list.txt", lines.encode())

    parts = source(f"{site.base}/list.txt").parts(["val"])

    assert parts[0].name == "b/1.tar.gz"
    for part in parts[1:]:
        assert re.fullmatch(r"https://other.example/train/2.tar\?[0-9a-f]{8}", part.name)
    assert len(set(names(parts))) == 3
    assert parts[0].place == f"{site.base}/b/1.tar.gz"
    assert {part.split for part in parts} == {None}  # a server's folders are no splits of ours


def test_a_text_file_may_lie_on_this_disk_and_leads_to_public_hosts(tmp_path: Path) -> None:
    (tmp_path / "list.TXT").write_text("# mine\nhttps://host.example/a b.tar\nhttps://host.example/get?id=2\n")

    made = source(f"{tmp_path}/list.TXT")

    assert [part.place for part in made.parts(["val"])] == [
        "https://host.example/a%20b.tar",
        "https://host.example/get?id=2",
    ]
    assert made.notice
    for line in ("b/1.tar", "http://127.0.0.1/a.tar"):
        (tmp_path / "list.TXT").write_text(line)
        with pytest.raises(SourceError, match=r"list.TXT:1: .*(is not an http|private network)"):
            made.parts(["val"])


def test_archives_told_apart_by_the_query_alone_have_names_that_their_order_does_not_change(site: Site) -> None:
    site.put("a.txt", b"get?id=a\nget?id=b\n")
    site.put("b.txt", b"get?id=c\nget?id=b\nget?id=a\nother\n")

    first, second, both = (source(f"{site.base}/{name}.txt").parts(["val"]) for name in ("a", "b", "{a,b}"))

    by_query = {part.place.partition("?")[2]: part.name for part in second}
    assert [part.name for part in first] == [by_query["id=a"], by_query["id=b"]]
    assert len(set(by_query.values())) == 4
    assert {part.place: part.name for part in both} == {part.place: part.name for part in second}
    assert by_query[""] == "other"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("file:///etc/passwd", "is not an http"),
        ("http://10.0.0.1/a.tar", "private network"),
        ("<html>", "is a web page"),
    ],
)
def test_a_list_leads_only_where_it_may(site: Site, line: str, why: str) -> None:
    site.put("list.txt", line.encode())

    with pytest.raises(SourceError, match=why):
        source(f"{site.base}/list.txt").parts(["val"])


def test_a_list_that_the_server_fails_to_give_may_be_had_later(site: Site) -> None:
    site.put("list.txt", steps=[Step(code=503)])

    with pytest.raises(UnreachableError, match=r"list.txt: the list of parts cannot be read: .*503") as raised:
        source(f"{site.base}/list.txt").parts(["val"])

    assert raised.value.status is Status.HTTP_5XX


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("", "needs a place"),
        ("nowhere.tar", "nowhere.tar does not exist; give a folder"),
        ("/dev/null", "is not a file"),
        ("a.ZIP", r"a.ZIP: only .tar, .tar.gz, .tgz can be streamed; unpack it .* --source local:DIR"),
        (f"https://host.example/a.zip?{WORD}", r"a.zip: only .tar"),
        ("https://host.example/a.tar.bz2", r"a.tar.bz2: only .tar"),
        ("https://host.example/folder/", "is a folder of a server; name its archives"),
        (f"ftp://host.example/a.tar?{WORD}", "is not an http or https URL; give http.*hf://"),
        (f"https://me:{WORD}@host.example/a.tar", "contains a password"),
        (
            f"https://me:SE/{WORD}@host.example/a.tar",
            r"--source archives:https://\*\*\*@host.example/a.tar: https://host.example",
        ),
        (f"s3://KEY:SE/{WORD}@bucket/a.tar", r"archives:s3://\*\*\*@bucket/a.tar: contains a password; give the keys"),
        (
            f"me:{WORD}@host.example/a.tar",
            r"^\*\*\*@host.example/a.tar: there is no such folder, and a URL begins with",
        ),
        ("a{0..3.tar", "unbalanced braces"),
        ("{0..99999}{0..9}.tar", "more than 100000 archives"),
        ("{0..9999999999}.tar", "stands for more than 100000 archives"),
        ("hf://nobody", "is not a location on the Hub"),
    ],
)
def test_a_place_that_cannot_be_is_refused_with_a_remedy(
    place: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SourceError, match=why) as raised:
        source(place).parts(["val"])

    assert WORD not in str(raised.value)


def test_a_folder_with_a_zip_alone_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "videos.zip").write_bytes(b"PK")

    with pytest.raises(SourceError, match=r"videos.zip: only .tar, .tar.gz, .tgz can be streamed; unpack it and give"):
        source(str(tmp_path)).parts(["train"])


def test_a_place_without_archives_is_named(tmp_path: Path) -> None:
    put(tmp_path / "val" / "a.tar")

    with pytest.raises(
        SourceError, match=r"has no archive \(.tar, .tar.gz, .tgz\) of train; check the place, and --splits"
    ):
        source(str(tmp_path)).parts(["train"])


def test_a_path_is_absolute_for_workers_and_a_url_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert sources.absolute("archives:x_{0..1}.tar").real == f"archives:{tmp_path}/x_{{0..1}}.tar"
    assert sources.absolute("archives:hf://datasets/a/b").real == "archives:hf://datasets/a/b"


# --- Reading them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [TAR, gzip.compress(TAR)])
def test_the_clips_come_by_the_pattern_from_disk_and_server(
    data: bytes, site: Site, scratch: Path, tmp_path: Path
) -> None:
    site.put("v.tar.gz", data)
    put(tmp_path / "v.tar", data)
    for place in (f"{site.base}/v.tar.gz", str(tmp_path)):
        made = source(place, names=VGG)
        (part,) = made.parts(["train"])
        assert read(made, part, scratch, CLIP) == {"v/---g-f_I2yQ_000001": b"one", "v/other_000002": None}
        assert bool(made.downloaded) == (place != str(tmp_path))


def test_names_may_have_folders_and_files_of_one_name_in_two_do_not_meet(scratch: Path, tmp_path: Path) -> None:
    two = [replace(CLIP, label=label) for label in ("running", "walking")]
    put(
        tmp_path / "a.tar",
        b"".join(member(f"x/{each.label}/{CLIP.youtube_id}.mp4", each.label.encode()) for each in two) + END,
    )
    made = source(str(tmp_path), names="{label}/{id}")

    for clip in two:
        found = read(made, made.parts(["train"])[0], scratch, clip)
        assert found.pop(f"x/{clip.label}/{CLIP.youtube_id}") == clip.label.encode()
        assert list(found.values()) == [None]


@pytest.mark.parametrize("folder", ["play\u00e9 x y", "playe\u0301 x y", "play\u00e9_x_y"])
def test_a_label_has_blanks_or_underscores_and_accents_in_any_form(folder: str, scratch: Path, tmp_path: Path) -> None:
    put(tmp_path / "a.tar", pax(path=f"{folder}/{CLIP.youtube_id}.mp4") + member("short", b"x") + END)
    made = source(str(tmp_path), names="{label}/{id}")

    for label in ("play\u00e9 x y", "playe\u0301 x y"):
        found = read(made, made.parts(["val"])[0], scratch, replace(CLIP, label=label))
        assert list(found.values()) == [b"x"]


@pytest.mark.parametrize("suffix", ["mkv", "MOV", "ts", "mp4.webm"])
def test_any_container_of_a_local_folder_is_taken(suffix: str, scratch: Path, tmp_path: Path) -> None:
    put(tmp_path / "a.tar", member(f"{CLIP.key}.{suffix}", b"x") + member(f"{CLIP.key}.txt", b"y") + END)
    made = source(str(tmp_path))

    ((name, fetched),) = made.stream(made.parts(["val"])[0], {CLIP.key}, scratch)

    assert name == CLIP.key
    assert fetched == FetchResult(status=Status.OK, path=scratch / f"{CLIP.key}.{suffix.rpartition('.')[2].lower()}")


def test_a_strangers_tar_writes_nothing_but_the_wanted_clips(scratch: Path, tmp_path: Path) -> None:
    name = "---g-f_I2yQ_000001.mp4"
    put(
        tmp_path / "a.tar",
        member(name, kind=b"2", link=b"/etc/passwd")
        + member(name, kind=b"1", link=b"other")
        + b"".join(member(name, kind=kind) for kind in (b"3", b"4", b"5", b"6"))
        + pax(path="x" * 10_000 + ".mp4")
        + member("short", b"long name")
        + pax(path="y" * 10_000 + f"/{name}")
        + member("short", b"a long path")
        + pax(path=b"\xff\xfe\n\t.mp4")
        + member("short", b"no text")
        + member(f"../../../{name}", b"second")
        + member(f"/abs/{name}", b"third")
        + member(f"b/{name.replace('mp4', 'MP4')}", b"fourth")
        + member(f"c/{name}", b"one too many")
        + member("..mp4", b"dots")
        + END,
    )
    made = source(str(tmp_path), names=VGG)

    found = read(made, made.parts(["val"])[0], scratch, CLIP)

    assert found["---g-f_I2yQ_000001"] == b"a long path"
    assert set(map(len, found)) <= set(range(300))
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == {
        "a.tar": (tmp_path / "a.tar").read_bytes(),
        "---g-f_I2yQ_000001.mp4": b"a long path",
        "---g-f_I2yQ_000001.copy2.mp4": b"second",
        "---g-f_I2yQ_000001.copy3.mp4": b"third",
        "---g-f_I2yQ_000001.copy4.mp4": b"fourth",
    }


def test_names_in_a_strangers_tar_are_printable_lines(scratch: Path, tmp_path: Path) -> None:
    name = "---g-f_I2yQ_000001"
    odd = [f"x\x1b[2J\x07/{name}", f"q\n{name}", f"\x9b{name}", f"a\n{CLIP.key}/b/{name}\u202e"]
    put(tmp_path / "a.tar", b"".join(member(f"{each}.mp4", b"x") for each in odd) + END)
    made = source(str(tmp_path), names=VGG)

    assert read(made, made.parts(["val"])[0], scratch, CLIP) == {name: b"x"}  # the first, without its folder


def test_names_without_end_are_damage(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_NAMES_CHARS", 50)
    put(tmp_path / "a.tar", b"".join(member(f"{number}{'x' * 20}.mp4", b"x") for number in range(4)) + END)
    made = source(str(tmp_path))

    with pytest.raises(PartError, match="more than any part") as raised:
        read(made, made.parts(["val"])[0], scratch, CLIP)

    assert raised.value.status is Status.CORRUPT


def test_what_breaks_gives_the_clips_before_it_and_says_where(site: Site, scratch: Path) -> None:
    file = site.put("v.tar", TAR, steps=[Step(cut=1600)], ranges=False)
    made = source(f"{site.base}/v.tar?sig={WORD}", names=VGG)
    (part,) = made.parts(["train"])
    found: dict[str, FetchResult | None] = {}

    with pytest.raises(
        PartError, match=rf"part v.tar\?[0-9a-f]{{8}} \({site.base}/v.tar\): ends after 1600 of {len(TAR)} bytes"
    ) as raised:
        found.update(made.stream(part, {"---g-f_I2yQ_000001"}, scratch))

    assert raised.value.status is Status.TRUNCATED
    assert WORD not in str(raised.value)
    assert len(file.asked) == 2


def test_a_break_is_resumed_at_its_byte_and_a_changed_file_is_not_joined(site: Site, scratch: Path) -> None:
    file = site.put("v.tar", TAR, steps=[Step(cut=1600), Step()])
    made = source(f"{site.base}/v.tar", names=VGG)
    (part,) = made.parts(["train"])

    assert len(read(made, part, scratch, CLIP)) == 2
    assert file.asked == ["", "1600-"]
    file = site.put("v.tar", TAR, steps=[Step(cut=1600), Step(swap=TAR.replace(b"one", b"ONE"))])
    with pytest.raises(PartError, match="the file changed on the server while it was read"):
        read(made, part, scratch, CLIP)


def test_a_zip_under_another_name_is_no_tar(tmp_path: Path, scratch: Path) -> None:
    put(tmp_path / "a.tar", b"PK\x03\x04" + bytes(2000))
    made = source(str(tmp_path))

    with pytest.raises(PartError, match="is neither a tar nor a gzip of one"):
        read(made, made.parts(["val"])[0], scratch, CLIP)


# --- The Hub and stores -----------------------------------------------------------------------------------------------


@pytest.fixture
def hub_set(hub_server: Hub) -> Repo:
    """A private data set of two tars and a card."""
    repo = hub_server.repos["datasets/ann/vgg"] = Repo(private=True)
    tars = {"train/a.tar.gz": gzip.compress(TAR, mtime=0), "b.tar": TAR * 30}
    repo.commits.append(
        {name: Blob(data, lfs=True) for name, data in tars.items()} | {"README.md": Blob(b"x", lfs=False)}
    )
    return repo


def test_a_data_set_of_the_hub_is_a_folder_pinned_at_its_commit(hub_set: Repo, hub_server: Hub, scratch: Path) -> None:
    made = source("hf://datasets/ann/vgg", names=VGG)

    parts = made.parts(["train", "val"])

    assert [part.split for part in parts] == [None, "train"]
    assert names(parts) == [f"{name}@{hub_set.files[name].sha256[:12]}" for name in ("b.tar", "train/a.tar.gz")]
    assert [part.size for part in parts] == [len(hub_set.files[name].data) for name in ("b.tar", "train/a.tar.gz")]
    assert parts[1].place == f"hf://datasets/ann/vgg@{hub_set.sha()}/train/a.tar.gz"
    assert len(made.parts(["val"])) == 1

    hub_set.commits.append({"train/a.tar.gz": Blob(b"another", lfs=True)})
    assert read(made, parts[1], scratch, CLIP) == {"v/---g-f_I2yQ_000001": b"one", "v/other_000002": None}
    assert made.downloaded == parts[1].size
    assert names(made.parts(["train"])) != names(parts)  # so what the ledger says of the old one does not hold


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("/train", ["a.tar.gz"]),
        ("/train/a.tar.gz", ["a.tar.gz"]),
        ("@main/b.tar", ["b.tar"]),
        ("/{b.tar,train/a.tar.gz}", ["b.tar", "train/a.tar.gz"]),
        ("/{train,other}", ["train/a.tar.gz"]),
    ],
)
def test_a_folder_or_an_archive_of_a_repository(hub_set: Repo, place: str, parts: list[str]) -> None:
    found = source(f"hf://datasets/ann/vgg{place}").parts(["train"])

    assert [name.partition("@")[0] for name in names(found)] == parts
    assert all(f"@{hub_set.sha()}/" in part.place for part in found)


def test_braces_list_a_folder_once_and_see_one_commit(
    hub_set: Repo, hub_server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    first = hub_set.sha()
    listing = hub.listing

    def listed(place: hub.Place) -> tuple[hub.Place, dict[str, hub.File]]:
        found = listing(place)
        asked.append(place.path)
        hub_set.commits.append({"b.tar": Blob(str(len(asked)).encode(), lfs=True)})  # somebody commits meanwhile
        return found

    monkeypatch.setattr(hub, "listing", listed)

    found = source("hf://datasets/ann/vgg/{b.tar,none.tar,train/a.tar.gz,train}").parts(["train"])

    assert asked == ["", "train"]
    assert {part.place.partition("@")[2].partition("/")[0] for part in found} == {first}


def test_a_hub_that_fails_is_waited_for_and_what_is_not_there_is_told(
    hub_set: Repo, hub_server: Hub, scratch: Path
) -> None:
    made = source("hf://datasets/ann/vgg", names=VGG)
    (part, _) = made.parts(["train"])
    hub_server.faults = [Fault("GET .*/resolve/", status=403, times=99)]
    with pytest.raises(PartError) as broken:
        read(made, part, scratch, CLIP)
    hub_server.faults = [Fault("GET .*/tree/", status=503, times=99)]
    with pytest.raises(UnreachableError) as raised:
        made.parts(["train"])
    hub_server.faults = [Fault("GET .*/tree/", status=429, times=99)]
    with pytest.raises(UnreachableError) as limited:
        made.parts(["train"])
    hub_server.faults.clear()

    assert (broken.value.status, raised.value.status) == (Status.HTTP_4XX, Status.HTTP_5XX)
    assert limited.value.status is Status.RATE_LIMITED
    with pytest.raises(SourceError, match="hf://datasets/ann/none: does not exist") as missing:
        source("hf://datasets/ann/none").parts(["train"])
    assert not isinstance(missing.value, UnreachableError)
    assert WORD not in f"{broken.value} {raised.value} {limited.value}"


def test_a_download_from_the_hub_that_breaks_goes_on(hub_set: Repo, hub_server: Hub, scratch: Path) -> None:
    made = source("hf://datasets/ann/vgg/b.tar", names=VGG)
    (part,) = made.parts(["train"])
    hub_server.faults = [Fault("GET .*/resolve/", cut=True)]

    assert read(made, part, scratch, CLIP)["v/---g-f_I2yQ_000001"] == b"one"


def test_archives_of_a_bucket_are_a_folder_or_named_one_by_one(s3: str, scratch: Path, tmp_path: Path) -> None:
    for name in ("a/train/1.tar", "a/2.tar"):
        remote.upload(put(tmp_path / name), f"{s3}/{name}")

    assert names(source(f"{s3}/a").parts(["train"])) == ["2.tar", "train/1.tar"]
    made = source(f"{s3}/a/{{2,3}}.tar", names=VGG)
    found, missing = made.parts(["val"])
    assert (found.name, found.size, missing.size) == ("2.tar", len(TAR), None)
    assert read(made, found, scratch, CLIP)["v/---g-f_I2yQ_000001"] == b"one"
    with pytest.raises(PartError, match=r"part 3.tar .*does not exist") as raised:
        read(made, missing, scratch, CLIP)
    assert raised.value.status is Status.HTTP_4XX


@pytest.mark.parametrize("place", ["S3://{}/my ü%20/", "s3://{}/my ü%20/1 é.tar", "S3://{}/my ü%20/{{1,2}} é.tar"])
def test_names_in_a_bucket_are_not_quoted_and_schemes_have_any_case(
    place: str, s3: str, scratch: Path, tmp_path: Path
) -> None:
    remote.upload(put(tmp_path / "a.tar"), f"{s3}/my ü%20/1 é.tar")
    made = source(place.format(s3.removeprefix("s3://")), names=VGG)

    part = made.parts(["val"])[0]

    assert (part.name, part.size) == ("1 é.tar", len(TAR))
    assert read(made, part, scratch, CLIP)["v/---g-f_I2yQ_000001"] == b"one"


def test_an_archive_of_a_bucket_whose_name_is_not_printable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "find", lambda _: {"a\x1b.txt": 1, "b\n.tar": 2})

    with pytest.raises(SourceError, match=r"s3://bucket: holds 'b\\n.tar', a name that cannot be printed; rename it"):
        source("s3://bucket").parts(["val"])


# --- Archives that are read in several readings, and clips that lie there twice ---------------------------------------


def _readings(made: Source, part: TarPart, wanted: set[str], folder: Path) -> list[dict[str, bytes | str | None]]:
    """What each reading gives: names, with the bytes of a file."""
    found: list[dict[str, bytes | str | None]] = []
    while True:
        found.append({})
        try:
            for name, fetched in made.stream(part, wanted, folder):
                path = fetched.path if fetched else None
                found[-1][name] = path.read_bytes() if path else fetched.detail if fetched else None
            return found
        except UnfinishedError as error:
            before, part = part, replace(part, start=error.position)
        assert part.start > before.start


@pytest.mark.parametrize(("limit", "value"), [("READ_SECONDS", 0.0), ("READ_BYTES", 1)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "gzip"])
def test_a_reading_ends_in_time_and_the_next_one_continues(
    limit: str, value: float, pack: Callable[[bytes], bytes], site: Site, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, limit, value)
    members = [("notes.txt", b"-"), ("x/a.mp4", b""), ("b.mp4", b"b"), ("a.mp4", b"a"), ("c.mp4", b""), ("d.mp4", b"d")]
    site.put("v.tar", pack(b"".join(member(name, data) for name, data in members) + END))
    made = source(f"{site.base}/v.tar")
    (part,) = made.parts(["train"])

    readings = _readings(made, part, {"a", "b", "c"}, scratch)

    assert len(readings) == (len(members) if limit == "READ_SECONDS" else 3)
    given = [{name: data for name, data in reading.items() if data} for reading in readings]
    assert [each for each in given if each] == [{"b": b"b"}, {"a": b"a"}, {"c": "c.mp4 is empty"}]
    assert set(readings[-1]) == {"b", "a", "c", "d"}  # all names, for the record of the archive
    assert (part.start, part) == (0, replace(part, start=9))  # it stays the same part
