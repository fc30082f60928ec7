"""What an address tells of itself, and where what it hides comes from."""

import copy
import json
import pickle
from pathlib import Path

import pytest

from kinetics_sounds.address import VARIABLE, Address
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.redact import redact

URL = "http://me:w0rd@host.example:80/a b/{youtube_id}?sig=a'b c#there"
SHOWN = "http://***@host.example:80/a b/{youtube_id}?***#***"


@pytest.mark.parametrize("prefix", ["", "youtube:"])
def test_no_text_of_an_address_has_its_secrets(prefix: str) -> None:
    address = Address(f"{prefix}{URL}")

    assert str(address) == f"{address}" == f"{prefix}{SHOWN}"
    assert repr([address]) == f"[Address({prefix + SHOWN!r})]"
    with pytest.raises(TypeError):
        json.dumps(address)
    assert address.real == f"{prefix}{URL}"
    assert {address: 1}[Address(f"{prefix}{URL}")] == 1
    assert address != Address(f"{prefix}{SHOWN}")


@pytest.mark.parametrize("text", ["u:pass@h:80", "//u:pass@h/set", "//token@h", "u:pa s's@h"])
def test_a_password_is_hidden_though_the_scheme_was_forgotten(text: str) -> None:
    assert str(Address(text)) == f"***@{text.partition('@')[2]}"
    assert Address(text).real == text
    assert Address(text).secrets[0] == text.partition("@")[0].removeprefix("//")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://user:SE/CRETX@h/a.tar", "https://***@h/a.tar"),
        ("archives:s3://KEY:SE/CR?E#TX@bucket/a.tar", "archives:s3://***@bucket/a.tar"),
        ("https://user:1SE/2@h:80/a.tar?x=1", "https://***@h:80/a.tar?***"),
    ],
)
def test_a_password_may_have_slashes(text: str, masked: str) -> None:
    assert str(Address(text)) == redact(f"see {text} there").removeprefix("see ").removesuffix(" there") == masked
    assert text.partition("://")[2].rpartition("@")[0] in Address(text).secrets


@pytest.mark.parametrize(
    "text", ["http://h:80/set@v1/a", "hf://datasets/a/b@main/c", "http://[::1]:80/a@b", "http://h/a:b@c"]
)
def test_an_at_sign_in_a_path_hides_nothing(text: str) -> None:
    assert str(Address(text)) == redact(text) == text
    assert Address(text).secrets == []


def test_an_address_is_no_text_to_compare_and_is_copied_without_its_secret() -> None:
    hidden = Address("http://h/p?***")

    with pytest.raises(TypeError, match="'<' not supported"):
        _ = hidden < "http://h"
    assert sorted([Address("b"), Address("a")]) == [Address("a"), Address("b")]
    assert copy.copy(hidden) is hidden
    assert pickle.loads(pickle.dumps(hidden)) == hidden


def test_a_path_is_told_as_it_is() -> None:
    assert str(Address("/data/a?b#c@d")) == Address("/data/a?b#c@d").real == "/data/a?b#c@d"


@pytest.mark.parametrize("prefix", ["", "youtube:"])
def test_what_is_hidden_comes_from_the_environment(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = "http://me:w0rd@host.example:80/set?sig=ab#there"
    asked = Address(f"{prefix}http://***@host.example:80/set?***#***")
    with pytest.raises(SettingsError, match=rf"^http://\*\*\*@host.*{VARIABLE} has no such address; give the full"):
        _ = asked.real

    monkeypatch.setenv(VARIABLE, f"http://me:w0rd@host.example:80/other?sig=ab#there  {whole}")
    assert asked.real == f"{prefix}{whole}"
    assert pickle.loads(pickle.dumps(asked)).real == f"{prefix}{whole}"
    assert copy.deepcopy(asked) is asked

    monkeypatch.setenv(VARIABLE, f"youtube:{whole}")
    assert asked.real == f"{prefix}{whole}"

    monkeypatch.setenv(VARIABLE, f"{whole} {whole.replace('ab', 'cd')}")
    with pytest.raises(SettingsError, match="has 2"):
        _ = asked.real


def test_what_is_hidden_comes_from_a_file_that_nobody_else_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = tmp_path / "addresses"
    monkeypatch.setenv(VARIABLE, str(book))
    asked = Address("s3://***@bucket/set")
    with pytest.raises(SettingsError, match=r"addresses cannot be read: No such file"):
        _ = asked.real

    book.write_text("s3://key:word@bucket/set\nhttps://host/x?sig=1\n")
    book.chmod(0o640)
    with pytest.raises(SettingsError, match=r"addresses is accessible to others; chmod 600 it"):
        _ = asked.real

    book.chmod(0o600)
    assert asked.real == "s3://key:word@bucket/set"
    assert Address("https://host/x?***").real == "https://host/x?sig=1"

    book.write_text("youtube:https://me:a b@host/y?sig=1 2\n")
    assert Address("https://***@host/y?***").real == "https://me:a b@host/y?sig=1 2"

    book.write_text("https://host/x?sig=1\n" + "#" * (64 << 10))
    with pytest.raises(SettingsError, match=r"addresses is longer than 64 KiB; keep only addresses"):
        _ = asked.real
