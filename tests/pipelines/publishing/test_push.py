"""A folder to the Hub: what is said before it is sent, who is asked, and what is there afterwards."""

import hashlib
import sys
from pathlib import Path

import pytest

from kinetics_sounds.errors import RemoteError, SettingsError
from kinetics_sounds.pipelines.publishing import contents
from kinetics_sounds.pipelines.publishing.push import push

from ...canaries import WORD
from ...hub_server import Blob, Hub, Repo

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
    sealed(made)
    (made / ".env").write_text(f"HF_TOKEN={WORD}")
    (made / ".git").mkdir()
    (made / ".git/config").write_text(WORD)
    (made / ".gitattributes").write_text(WORD)
    return made


SENT = {"README.md", "SHA256SUMS", "splits/train.csv", ".zenodo.json", "clip.mp4"}


def sealed(folder: Path) -> None:
    """SHA256SUMS anew, with the sums of what is there."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "SHA256SUMS"]
    ours = [path for path in paths if not path.relative_to(folder).as_posix().startswith((".env", ".git"))]
    sums = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in ours}
    (folder / "SHA256SUMS").write_bytes(contents.sums_text(sums))


def test_a_folder_is_sent_whole_and_its_card_last(
    hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(folder, SET, kind="dataset", yes=True) == 0

    repo = hub_server.repos[NAME]
    assert [set(files) for files in repo.commits] == [set(), SENT - {"README.md"}, SENT]
    out, err = capsys.readouterr()
    assert not out
    assert f"to: {SET} (dataset), which does not exist, and will be created private\n" in err
    assert "files: 5, 20.4 kB\n" in err
    assert "licence: cc-by-4.0\n" in err
    assert "media: 1 videos (20.0 kB); check that you may share it\n" in err
    assert f"{hub_server.url}/datasets/ann/k32: 5 files sent in 2 commits, 0 existed already" in err
    assert f'press "Generate DOI" in the section DOI of {hub_server.url}/datasets/ann/k32/settings' in err
    assert WORD not in err


def test_a_second_push_sends_nothing(hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push(folder, SET, kind="dataset", yes=True)

    assert push(folder, SET, kind="dataset", yes=True) == 0
    assert "0 files sent in 0 commits, 5 existed already" in capsys.readouterr().err


def test_without_a_terminal_nothing_is_sent_unless_told(hub_server: Hub, folder: Path) -> None:
    with pytest.raises(SettingsError, match="asks for confirmation, but there is no terminal; add --yes"):
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
    assert "which does not exist, and will be created PUBLIC: anyone can read it" in capsys.readouterr().err


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_that_is_there_stays_as_open_as_it_is(
    hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str], private: bool
) -> None:
    hub_server.repos[NAME] = Repo(private=private)

    push(folder, SET, kind="dataset", yes=True, public=private)

    assert hub_server.repos[NAME].private == private
    err = capsys.readouterr().err
    assert f"which is there, and stays {'private' if private else 'PUBLIC: anyone can read it'}" in err
    assert ("note: --public does not change an existing repository" in err) == private


def test_what_ks_publish_did_not_write_is_named_and_stays(
    hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in a checkout of the repository, whose own files are not spoken of."""
    (folder / "splits/a\nb \u202e.csv").write_text(WORD)
    (folder / "key").symlink_to("/etc/hostname")

    assert push(folder, SET, kind="dataset", yes=True) == 0
    assert set(hub_server.repos[NAME].files) == SENT
    assert not [name for name, blob in hub_server.repos[NAME].files.items() if WORD.encode() in blob.data]
    told = "not sent, since not written by ks-publish: 3 files: .env, key, splits/aU+000Ab U+202E.csv\n"
    assert told in capsys.readouterr().err


def test_what_goes_on_the_hub_is_said_before_and_after(
    hub_server: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Splits and clips that this version lacks, and nothing else that is there; an answer of no keeps them."""
    gone = ["clips/val/a.mp4", "splits/val.csv"]
    for name in [*gone, "shards.tar"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    sealed(folder)
    push(folder, SET, kind="dataset", yes=True)
    for name in [*gone, "shards.tar"]:
        (folder / name).unlink()
    sealed(folder)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    capsys.readouterr()

    said: list[str] = []

    def asked(_: str) -> str:
        said.append(capsys.readouterr().err)
        return "n"

    assert push(folder, SET, kind="dataset", yes=False, ask=asked) == 0
    assert set(hub_server.repos[NAME].files) == SENT | {*gone, "shards.tar"}
    assert "to be deleted there, from an earlier version: 2 files: clips/val/a.mp4, splits/val.csv\n" in said[0]
    purge = "HfApi().super_squash_history('ann/k32', repo_type='dataset')"
    assert (
        f"the git history of the repository keeps what is deleted; to purge it, with huggingface_hub: {purge}"
        in said[0]
    )

    push(folder, SET, kind="dataset", yes=True)
    assert set(hub_server.repos[NAME].files) == SENT | {"shards.tar"}
    assert "deleted there: 2 files: clips/val/a.mp4, splits/val.csv\nnote: the git history" in capsys.readouterr().err
    push(folder, SET, kind="dataset", yes=True)
    assert "delete" not in capsys.readouterr().err


def test_in_a_folder_of_a_repository_nothing_outside_of_it_goes(hub_server: Hub, folder: Path) -> None:
    (folder / "splits/val.csv").write_text("label\n")
    sealed(folder)
    push(folder, SET, kind="dataset", yes=True)
    push(folder, f"{SET}/old", kind="dataset", yes=True)
    (folder / "splits/val.csv").unlink()
    sealed(folder)

    push(folder, f"{SET}/old", kind="dataset", yes=True)
    assert {name for name in hub_server.repos[NAME].files if name.endswith("val.csv")} == {"splits/val.csv"}


def test_of_very_many_deletions_some_are_named(
    hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub_server.repos[NAME] = Repo(private=True)
    hub_server.repos[NAME].files.update({f"clips/{n:02}.mp4": Blob(data=b"x", lfs=False) for n in range(25)})

    push(folder, SET, kind="dataset", yes=True)
    err = capsys.readouterr().err
    assert "to be deleted there, from an earlier version: 25 files: clips/00.mp4, " in err
    assert "clips/19.mp4, and 5 more\n" in err
    assert set(hub_server.repos[NAME].files) == SENT


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("---\nlicense: other\nlicense_name: of-our-own\n---\n", "of-our-own"),
        ('---\nlicense: "x\\e[31m"\n---\n', "x[31m"),
        ("# no head\n", "none in README.md, so nobody may use it"),
        ("---\n: [\n---\n", "none in README.md, so nobody may use it"),
        ("---\n- a list\n---\n", "none in README.md, so nobody may use it"),
    ],
)
def test_the_licence_is_that_of_the_card(
    hub_server: Hub, folder: Path, capsys: pytest.CaptureFixture[str], card: str, told: str
) -> None:
    (folder / "README.md").write_text(card)
    sealed(folder)

    push(folder, SET, kind="dataset", yes=True)
    assert f"licence: {told}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("s3://bucket/x", r"--push s3://bucket/x: is not a location on the Hub; give hf://datasets/USER/NAME"),
        ("hf://ann/model", r"--push hf://ann/model: is for a model, but this is a dataset"),
        ("hf://datasets/ann", r"is not a location on the Hub"),
        (f"https://{WORD}:word@host/x?{WORD}=1", r"is not a location on the Hub"),
    ],
)
def test_another_kind_of_place_is_refused(hub_server: Hub, folder: Path, to: str, told: str) -> None:
    with pytest.raises((SettingsError, RemoteError), match=told) as found:
        push(folder, to, kind="dataset", yes=True)
    assert hub_server.requests == []
    assert WORD not in str(found.value)


def test_a_link_is_not_followed_out_of_the_folder(hub_server: Hub, folder: Path, tmp_path: Path) -> None:
    """In place of a file, or of the folder that it is in."""
    (folder / "clip.mp4").unlink()
    (folder / "clip.mp4").symlink_to("/etc/hostname")
    with pytest.raises(SettingsError, match=r"clip\.mp4: is a link, but only files are sent"):
        push(folder, SET, kind="dataset", yes=True)
    (folder / "clip.mp4").unlink()
    with pytest.raises(SettingsError, match=r"clip\.mp4: is missing, but listed in SHA256SUMS; write the folder again"):
        push(folder, SET, kind="dataset", yes=True)
    (folder / "clip.mp4").write_text("")
    (folder / "splits").rename(tmp_path / "elsewhere")
    (folder / "splits").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match=r"splits/train\.csv: is a link"):
        push(folder, SET, kind="dataset", yes=True)
    assert hub_server.requests == []


@pytest.mark.parametrize("name", ["a b", "\u202eevil.csv", "=cmd()", "<script>", ".git"])
def test_a_name_that_the_hub_does_not_take_is_refused(hub_server: Hub, folder: Path, name: str) -> None:
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  {name}/x\n")

    with pytest.raises(SettingsError, match="is not a valid name on the Hub") as found:
        push(folder, SET, kind="dataset", yes=True)
    assert str(found.value).isprintable()


def test_a_folder_that_says_not_what_is_its_own_is_refused(hub_server: Hub, folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(
        SettingsError, match="has no SHA256SUMS, which lists the files to send; write it first with --out"
    ):
        push(folder, SET, kind="dataset", yes=True)
    assert hub_server.requests == []
