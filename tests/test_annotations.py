"""Kinetics CSVs of every kind are read, and what is wrong with one is said with its place and remedy."""

import contextlib
import http.server
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds import annotations
from kinetics_sounds.clip import Clip
from kinetics_sounds.errors import AnnotationError

from .serving import serving

HEADER = "label,youtube_id,time_start,time_end,split"
ROW = "bowling,5JzkrOVhPOw,27,37,val"


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


def clips(path: Path, *labels: str) -> list[Clip]:
    return [clip for clip, _ in annotations.read(path, labels=labels or ("bowling",)).clips]


BOWLING = Clip("5JzkrOVhPOw", 27, 37, "bowling", "val")


# --- What is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (HEADER, ROW),
        (f"{HEADER},is_cc", f"{ROW},0"),
        (f"{HEADER},a,b,c", f"{ROW},1,,x"),
        ("split,time_end,time_start,youtube_id,label", "val,37,27,5JzkrOVhPOw,bowling"),
        ('"label","youtube_id","time_start","time_end","split"', '"bowling","5JzkrOVhPOw","27","37","val"'),
        (HEADER, " bowling , 5JzkrOVhPOw , 27 , 37 , val "),
        (HEADER, "bowling,5JzkrOVhPOw,27.0,37.0,VALIDATE"),
    ],
)
def test_one_clip_is_one_clip_however_its_row_is_written(header: str, row: str, tmp_path: Path) -> None:
    assert clips(write(tmp_path, row, header=header)) == [BOWLING]


@pytest.mark.parametrize("split", ["val", "validate", "validation"])
def test_validate_is_val(split: str, tmp_path: Path) -> None:
    assert clips(write(tmp_path, f"bowling,5JzkrOVhPOw,27,37,{split}")) == [BOWLING]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_any_line_end_are_read(line_end: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}{line_end}{ROW}{line_end}".encode())

    assert clips(path) == [BOWLING]


def test_a_quoted_label_may_hold_commas_and_quotes(tmp_path: Path) -> None:
    label = 'tango, "slow"'
    path = write(tmp_path, '"tango, ""slow""",5JzkrOVhPOw,27,37,val')

    assert clips(path, label) == [Clip("5JzkrOVhPOw", 27, 37, label, "val")]


def test_an_id_that_begins_with_a_dash_or_is_all_digits_is_kept_as_text(tmp_path: Path) -> None:
    path = write(tmp_path, "bowling,-0123456789,1,11,train", "bowling,00000000001,1,11,train")

    assert [clip.youtube_id for clip in clips(path)] == ["-0123456789", "00000000001"]


def test_each_clip_comes_in_the_files_order_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "zumba,b0000000000,1,11,train", "", ROW, "zumba,a0000000000,1,11,test")

    found = annotations.read(path, labels={"zumba", "bowling"})

    assert [(clip.youtube_id[0], line) for clip, line in found.clips] == [("b", 2), ("5", 4), ("a", 5)]


def test_only_wanted_labels_and_splits_are_kept_but_every_label_is_known(tmp_path: Path) -> None:
    path = write(tmp_path, "zumba,a0000000000,1,11,val", "bowling,b0000000000,1,11,train", ROW)

    found = annotations.read(path, labels={"bowling"}, splits=("val", "test"))

    assert [clip for clip, _ in found.clips] == [BOWLING]
    assert set(found.labels) == {"zumba", "bowling"}


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=15).map(str.strip)


@settings(max_examples=50)
@given(labels=st.lists(TEXT.filter(bool), min_size=1, max_size=5), data=st.data())
def test_what_a_csv_writer_wrote_is_read_back(
    labels: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    quoted = ['"' + label.replace('"', '""') + '"' for label in labels]
    path = tmp_path_factory.mktemp("csv") / "list.csv"
    path.write_text(
        "\n".join([HEADER, *(f"{label},abc,{n},{n + 10},train" for n, label in enumerate(quoted))]), "utf-8"
    )

    assert clips(path, *labels) == [Clip("abc", n, n + 10, label, "train") for n, label in enumerate(labels)]


# --- What is refused --------------------------------------------------------------------------------------------------


def refusal(path: Path, *labels: str) -> str:
    with pytest.raises(AnnotationError) as caught:
        annotations.read(path, labels=labels or ("bowling",))
    return str(caught.value)


def test_the_test_list_without_labels_is_refused_with_both_remedies(tmp_path: Path) -> None:
    path = write(tmp_path, "5JzkrOVhPOw,27,37,test", header="youtube_id,time_start,time_end,split")

    said = refusal(path)

    assert said.startswith(f"{path}: has no column 'label': this is the original test list")
    assert "re-release" in said
    assert "--splits train,val" in said


@pytest.mark.parametrize("column", ["youtube_id", "time_start", "time_end", "split"])
def test_a_missing_column_is_named_with_what_was_found(column: str, tmp_path: Path) -> None:
    rest = ",".join(name for name in HEADER.split(",") if name != column)

    said = refusal(write(tmp_path, header=rest))

    assert said.startswith(
        f"{tmp_path}/list.csv: has no column '{column}'; a Kinetics CSV begins with the line {HEADER}"
    )
    assert "'label'" in said.partition("found:")[2]


@pytest.mark.parametrize("text", ["", "\n", "<html>sorry</html>\n", HEADER.replace(",", ";")])
def test_what_is_no_kinetics_csv_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)

    assert f"begins with the line {HEADER}" in refusal(path)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_columns_that_are_separated_otherwise_are_told(mark: str, quote: str, tmp_path: Path) -> None:
    header, row = (mark.join(f"{quote}{cell}{quote}" for cell in line.split(",")) for line in (HEADER, ROW))
    path = write(tmp_path, row, header=header)

    assert refusal(path) == (
        f"{path}: its columns are separated by {mark!r}; save it with commas: a Kinetics CSV begins with the line {HEADER}"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_utf_16_list_is_told_with_the_remedy(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(f"{HEADER}\n{ROW}\n".encode(encoding))

    assert refusal(path) == (
        f"{path}: cannot be read as a UTF-8 CSV: it is UTF-16; save it as UTF-8, or: iconv -f UTF-16 -t UTF-8 OLD > NEW"
    )


def test_a_latin_1_list_is_told_with_its_line_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\n{ROW}\ncaf\xe9,abc,1,11,val\n".encode("latin-1"))

    assert (
        "byte 0xe9 in line 3 is not UTF-8, but perhaps Latin-1 or Windows-1252; save it as UTF-8, or: iconv"
        in refusal(path)
    )


@pytest.mark.timeout(20)
def test_a_named_pipe_is_refused_and_a_command_s_output_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert "it is a named pipe; write its output to a file" in refusal(tmp_path / "pipe.csv")

    reading, writing = os.pipe()  # as a shell's `<(command)` does
    os.write(writing, f"{HEADER}\n{ROW}\n".encode())
    os.close(writing)
    assert clips(Path(f"/dev/fd/{reading}")) == [BOWLING]
    os.close(reading)


@pytest.mark.parametrize("composed", [True, False])
def test_a_label_in_another_form_of_unicode_is_the_same_label_spelt_as_asked_for(
    composed: bool, tmp_path: Path
) -> None:
    one, other = unicodedata.normalize("NFC", "déjeuner"), unicodedata.normalize("NFD", "déjeuner")
    assert one != other
    asked, listed = (one, other) if composed else (other, one)
    path = write(tmp_path, f"{listed},abc,1,11,val", f"{asked},abd,1,11,val")

    found = annotations.read(path, labels=[asked])

    assert [(clip.youtube_id, clip.label) for clip, _ in found.clips] == [("abc", asked), ("abd", asked)]
    assert set(found.labels) == {asked}


def test_an_empty_list_with_a_header_has_no_clips(tmp_path: Path) -> None:
    assert annotations.read(write(tmp_path), labels={"bowling"}) == annotations.Annotations((), Counter())


BAD_ROWS = {
    "bowling,5JzkrOVhPOw,,37,val": "time_start '' is not a whole number of seconds: the row has no time; fix or remove",
    "bowling,5JzkrOVhPOw,27,,val": "time_end '' is not a whole number of seconds",
    "bowling,5JzkrOVhPOw,27.5,37,val": "time_start '27.5' is not a whole number of seconds",
    "bowling,5JzkrOVhPOw,-1,9,val": "time_start '-1' is not a whole number of seconds",
    "bowling,5JzkrOVhPOw,nan,9,val": "time_start 'nan' is not a whole number of seconds",
    "bowling,5JzkrOVhPOw,0,inf,val": "time_end 'inf' is not a whole number of seconds",
    "bowling,5JzkrOVhPOw,0,1e300,val": "is not a valid span in seconds",
    "bowling,5JzkrOVhPOw,37,27,val": "37 to 27 is not a valid span in seconds",
    "bowling,../../etc/x,27,37,val": "'../../etc/x' is not a video ID",
    "bowling,,27,37,val": "'' is not a video ID (letters, digits, '_' and '-'); fix or remove the row",
    "bowling,dog_1.MP4,27,37,val": "'dog_1.MP4' is not a video ID (letters, digits, '_' and '-'); leave the extension off",
    "bowling,dog 1,27,37,val": "; rename a file with a blank in its name; fix",
    "bowling": "the row lacks its youtube_id, time_start, time_end, split; fix or remove the row",
    "bowling,5JzkrOVhPOw,27,37": "the row lacks its split; fix or remove the row",
    "bowling,5JzkrOVhPOw,27,37,dev": "split 'dev' is none of train, val, validate",
}


@pytest.mark.parametrize(("row", "said"), BAD_ROWS.items())
def test_a_wanted_row_that_is_no_clip_is_named_by_its_line(row: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, ROW, row)

    assert refusal(path).startswith(f"{path}:3: ")
    assert said in refusal(path)


def test_the_first_ten_wrong_rows_are_named_at_once(tmp_path: Path) -> None:
    """On lines 3 to 14, between good rows."""
    path = write(tmp_path, ROW, *["bowling,5JzkrOVhPOw,37,27,val"] * 11, "bowling,5JzkrOVhPOw,x,27,val", ROW)
    told = "37 to 27 is not a valid span in seconds; fix or remove the row"

    assert refusal(path).splitlines() == [*(f"{path}:{line}: {told}" for line in range(3, 13)), "and 2 more"]


def test_an_unclosed_quote_is_named_before_the_wrong_rows_above_it(tmp_path: Path) -> None:
    rows = ["bowling,5JzkrOVhPOw,x,9,val"] * 12
    first, *others, last = refusal(write(tmp_path, *rows, '"zumba,a0000000000,1,11,val')).splitlines()

    assert first.endswith("look for an unclosed quote")
    assert len(others) == 9
    assert "csv:2: time_start 'x' is not" in others[0]
    assert last == "and 3 more"


def test_bad_rows_of_other_labels_do_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path, *(row.replace("bowling", "zumba") for row in BAD_ROWS), ROW)

    assert clips(path) == [BOWLING]


def test_a_bad_time_in_an_unwanted_split_does_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path, "bowling,5JzkrOVhPOw,,,train", ROW)

    assert [c for c, _ in annotations.read(path, labels={"bowling"}, splits=["val"]).clips] == [BOWLING]


@pytest.mark.parametrize("rest", [[], [ROW] * 5000])
def test_a_quote_that_does_not_close_is_refused_and_swallows_nothing(rest: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, ROW, '"zumba,a0000000000,1,11,val', *rest)

    assert "is not a CSV" in refusal(path)
    assert "look for an unclosed quote" in refusal(path)


def test_a_list_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"caf\xe9")

    assert refusal(tmp_path / "gone.csv") == f"{tmp_path}/gone.csv: there is no such file"
    assert refusal(tmp_path / "latin.csv").startswith(f"{tmp_path}/latin.csv: cannot be read as a UTF-8 CSV")
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read as a UTF-8 CSV: Is a directory"


# --- Over the network -------------------------------------------------------------------------------------------------

BODY = f"{HEADER}\n{ROW}\n".encode()
Answer = tuple[int, bytes, dict[str, str]]
OK: Answer = (200, BODY, {"Content-Length": str(len(BODY))})


class Server:
    """Answers request n with `answers[n]`, and the last one from then on; counts the paths asked for."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [OK]
        self.asked: list[str] = []
        self.url = ""

    def answer(self, path: str) -> Answer:
        self.asked.append(path)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    script = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            status, body, headers = script.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # whoever asked has had enough
                self.wfile.write(body)

    monkeypatch.setenv("no_proxy", "*")
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as listening:
        script.url = f"http://127.0.0.1:{listening.server_port}"
        monkeypatch.setattr(annotations, "BACKOFF", replace(annotations.BACKOFF, longest_seconds=0.0))
        yield script


def failure(server: Server, folder: Path, name: str = "val.csv") -> str:
    with pytest.raises(AnnotationError) as caught:
        annotations.fetch(f"{server.url}/{name}", folder)
    assert not folder.exists() or not list(folder.iterdir()), "a failed download leaves nothing behind"
    return str(caught.value)


def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")

    assert annotations.fetch("a/b.csv", tmp_path) == Path("a/b.csv")
    assert annotations.fetch("~/b.csv", tmp_path) == Path("/home/someone/b.csv")
    assert annotations.fetch("~no-such-user/b.csv", tmp_path) == Path("~no-such-user/b.csv")


def test_a_url_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    first = annotations.fetch(f"{server.url}/val.csv", tmp_path / "new")
    second = annotations.fetch(f"{server.url}/val.csv", tmp_path / "new")

    assert first == second
    assert first.name.endswith("-val.csv")
    assert clips(first) == [BOWLING]
    assert server.asked == ["/val.csv"]


@pytest.mark.parametrize("names", [("400/val.csv", "600/val.csv"), ("get?list=val", "get?list=test"), ("a/", "b/")])
def test_two_urls_whose_files_are_called_alike_are_two_lists(
    names: tuple[str, str], server: Server, tmp_path: Path
) -> None:
    server.answers = [OK, (200, f"{HEADER}\n".encode(), {})]

    paths = [annotations.fetch(f"{server.url}/{name}", tmp_path) for name in names]

    assert [clips(path) for path in paths] == [[BOWLING], []]


@pytest.mark.parametrize("path", ["..", "../../escaped.csv", "%2e%2e/x"])
def test_a_url_cannot_name_a_file_outside_the_folder(path: str, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "annotations"

    assert annotations.fetch(f"{server.url}/{path}", folder).parent == folder
    assert [file.parent for file in tmp_path.rglob("*") if file.is_file()] == [folder]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_stumbles_twice_is_asked_three_times(status: int, server: Server, tmp_path: Path) -> None:
    server.answers = [(status, b"", {}), (status, b"", {}), OK]

    assert clips(annotations.fetch(f"{server.url}/val.csv", tmp_path)) == [BOWLING]
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_not_asked_again(status: int, server: Server, tmp_path: Path) -> None:
    server.answers = [(status, b"", {})]

    said = failure(server, tmp_path)

    assert said.startswith(f"{server.url}/val.csv: cannot be downloaded (HTTP Error {status}")
    assert said.endswith("give a local copy, or the list of your own videos, with --annotations PATH")
    assert len(server.asked) == 1


def test_a_server_that_stays_broken_is_given_up_after_four_times(server: Server, tmp_path: Path) -> None:
    server.answers = [(500, b"", {})]

    assert "HTTP Error 500" in failure(server, tmp_path)
    assert len(server.asked) == 4


CUT_OFF: dict[str, Answer] = {
    "length": (200, BODY[:20], {"Content-Length": str(len(BODY))}),
    "chunks": (200, b"ff\r\n" + BODY[:20], {"Transfer-Encoding": "chunked"}),
}


@pytest.mark.parametrize("how", CUT_OFF)
def test_a_body_that_is_cut_off_is_asked_for_again(
    how: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "protocol_version", "HTTP/1.1")
    status, body, headers = CUT_OFF[how]
    server.answers = [(status, body, {**headers, "Connection": "close"}), OK]

    assert clips(annotations.fetch(f"{server.url}/val.csv", tmp_path)) == [BOWLING]
    assert len(server.asked) == 2


@pytest.mark.parametrize("how", CUT_OFF)
def test_a_body_that_is_always_cut_off_is_refused(
    how: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "protocol_version", "HTTP/1.1")
    status, body, headers = CUT_OFF[how]
    server.answers = [(status, body, {**headers, "Connection": "close"})]

    assert "cannot be downloaded" in failure(server, tmp_path)
    assert len(server.asked) == 4


def test_a_body_without_a_length_is_taken_whole(server: Server, tmp_path: Path) -> None:
    server.answers = [(200, BODY, {})]

    assert clips(annotations.fetch(f"{server.url}/val.csv", tmp_path)) == [BOWLING]


@pytest.mark.parametrize("length", [None, "4096"])
def test_a_body_that_is_no_annotation_list_by_its_size_is_refused(
    length: str | None, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotations, "_MAX_BYTES", 1024)
    server.answers = [(200, b"x" * 4096, {"Content-Length": length} if length else {})]

    assert "this is not an annotation list" in failure(server, tmp_path)


def test_of_a_body_that_is_too_large_no_more_is_read_than_tells_so(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: Callable[[int], contextlib.AbstractContextManager[None]],
) -> None:
    monkeypatch.setattr(annotations, "_MAX_BYTES", 1024)
    body = bytes(64 << 20)
    server.answers = [(200, body, {})]

    with memory(8 << 20):
        assert "this is not an annotation list" in failure(server, tmp_path)


BAD_URLS: list[Callable[[str], str]] = [
    lambda _: "http://127.0.0.1:1/val.csv",  # refused
    lambda _: "http://127.0.0.1:port/val.csv",
    lambda _: "http:///val.csv",
    lambda url: f"{url}/a b.csv",
]


@pytest.mark.parametrize("bad", BAD_URLS)
def test_a_url_that_cannot_be_asked_is_an_error_of_the_user(
    bad: Callable[[str], str], server: Server, tmp_path: Path
) -> None:
    with pytest.raises(
        AnnotationError,
        match=r"cannot be downloaded .*; give a local copy, or the list of your own videos, with --annotations PATH",
    ):
        annotations.fetch(bad(server.url), tmp_path)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/val.csv"])
def test_only_http_is_asked(place: str, server: Server, tmp_path: Path) -> None:
    assert annotations.fetch(place, tmp_path) == Path(place)  # a path, and none that is there
    server.answers = [(302, b"", {"Location": "file:///etc/passwd"})]

    assert "cannot be downloaded" in failure(server, tmp_path)


def test_an_official_list_is_one_file_a_split() -> None:
    assert annotations.OFFICIAL.format(split="val") == "https://s3.amazonaws.com/kinetics/400/annotations/val.csv"
