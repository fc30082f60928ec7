"""A folder to the Hub: what is said before it is sent, who is asked, and what is there afterwards."""

import sys
from pathlib import Path

import pytest

from kinetics_sounds.errors import RemoteError, SettingsError
from kinetics_sounds.pipelines.publishing.push import push

from ...canaries import WORD
from ...hub_server import Hub, Repo

SET, NAME = "hf://datasets/ann/k32", "datasets/ann/k32"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published folder: a card, a table, 20 kB of videos."""
    made = tmp_path / "published"
    (made / "splits").mkdir(parents=True)
    (made / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# K32\n")
    (made / "splits/train.csv").write_text("label\n")
    (made / ".zenodo.json").write_text("{}")
    (made / "clip.mp4").write_bytes(bytes(20_000))
    (made / "half.1234.part").write_text("not whole")
    (made / ".lock").write_text("")
    return made


SENT = {"README.md", "splits/train.csv", ".zenodo.json", "clip.mp4"}


def test_a_folder_is_sent_whole_and_its_card_last(
    hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(folder, SET, kind="dataset", yes=True) == 0

    repo = hub_server.repos[NAME]
    assert [set(files) for files in repo.commits] == [set(), SENT - {"README.md"}, SENT]
    out, err = capsys.readouterr()
    assert not out
    assert f"to: {SET} (dataset), which is not there, and is made private\n" in err
    assert "files: 4, 20.0 kB\n" in err
    assert "licence: cc-by-4.0\n" in err
    assert "media: 1 videos (20.0 kB); see that you may share it\n" in err
    assert f"{hub_server.url}/datasets/ann/k32: 4 files sent in 2 commits, 0 were there already" in err
    assert f'press "Generate DOI" in the section DOI of {hub_server.url}/datasets/ann/k32/settings' in err
    assert WORD not in err


def test_a_second_push_sends_nothing(hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push(folder, SET, kind="dataset", yes=True)

    assert push(folder, SET, kind="dataset", yes=True) == 0
    assert "0 files sent in 0 commits, 4 were there already" in capsys.readouterr().err


def test_without_a_terminal_nothing_is_sent_unless_told(hub_server: Hub, folder: Path) -> None:
    with pytest.raises(SettingsError, match="asks before it sends, and there is no terminal to ask on; add --yes"):
        push(folder, SET, kind="dataset", yes=False)
    assert hub_server.requests == []


@pytest.mark.parametrize(("answer", "sent"), [("y", True), (" YES ", True), ("", False), ("n", False), ("yo", False)])
def test_on_a_terminal_the_answer_decides(
    hub_server: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, sent: bool
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

    assert push(folder, SET, kind="dataset", yes=False, ask=lambda _: answer) == 0
    assert bool(hub_server.repos) == sent


def test_public_is_asked_for_by_name(hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push(folder, SET, kind="dataset", yes=True, public=True)

    assert not hub_server.repos[NAME].private
    assert "which is not there, and is made PUBLIC: anybody can read it" in capsys.readouterr().err


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_that_is_there_stays_as_open_as_it_is(
    hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str], private: bool
) -> None:
    hub_server.repos[NAME] = Repo(private=private)

    push(folder, SET, kind="dataset", yes=True, public=private)

    assert hub_server.repos[NAME].private == private
    err = capsys.readouterr().err
    assert f"which is there, and stays {'private' if private else 'PUBLIC: anybody can read it'}" in err
    assert ("note: --public changes no repository that is there" in err) == private


def test_files_of_an_earlier_version_go_and_others_stay(hub_server: Hub, folder: Path) -> None:
    (folder / "splits/val.csv").write_text("label\n")
    (folder / "shards.tar").write_bytes(b"tar")
    push(folder, SET, kind="dataset", yes=True)
    (folder / "splits/val.csv").unlink()
    (folder / "shards.tar").unlink()

    push(folder, SET, kind="dataset", yes=True)

    assert set(hub_server.repos[NAME].files) == SENT | {"shards.tar"}


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("---\nlicense: other\nlicense_name: of-our-own\n---\n", "of-our-own"),
        ('---\nlicense: "x\\e[31m"\n---\n', "x[31m"),
        ("# no head\n", "none is said in README.md, so nobody may use it"),
        ("---\n: [\n---\n", "none is said in README.md, so nobody may use it"),
        ("---\n- a list\n---\n", "none is said in README.md, so nobody may use it"),
    ],
)
def test_the_licence_is_that_of_the_card(
    hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str], card: str, told: str
) -> None:
    (folder / "README.md").write_text(card)

    push(folder, SET, kind="dataset", yes=True)
    assert f"licence: {told}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("s3://bucket/x", r"--push s3://bucket/x: is no place on the Hub; give hf://datasets/USER/NAME"),
        ("hf://ann/model", r"--push hf://ann/model: is for a model, and this is a dataset"),
        ("hf://datasets/ann", r"is no place on the Hub"),
        (f"https://{WORD}:word@host/x?{WORD}=1", r"is no place on the Hub"),
    ],
)
def test_another_kind_of_place_is_refused(hub_server: Hub, folder: Path, to: str, told: str) -> None:
    with pytest.raises((SettingsError, RemoteError), match=told) as found:
        push(folder, to, kind="dataset", yes=True)
    assert hub_server.requests == []
    assert WORD not in str(found.value)


def test_a_link_is_not_followed_out_of_the_folder(hub_server: Hub, folder: Path) -> None:
    (folder / "key").symlink_to("/etc/hostname")

    with pytest.raises(SettingsError, match="key: is a link, and only files are sent"):
        push(folder, SET, kind="dataset", yes=True)
    assert hub_server.requests == []


@pytest.mark.parametrize("name", ["a b", "\u202eevil.csv", "=cmd()", "x\ny", "<script>"])
def test_a_name_that_the_hub_does_not_take_is_refused(hub_server: Hub, folder: Path, name: str) -> None:
    (folder / name).write_text("x")

    with pytest.raises(SettingsError, match="cannot be called so on the Hub") as found:
        push(folder, SET, kind="dataset", yes=True)
    assert str(found.value).isprintable()


def test_an_empty_folder_is_refused(hub_server: Hub, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no file to send"):
        push(tmp_path, SET, kind="dataset", yes=True)
