"""What a message may tell of URLs and secrets."""

import pytest

from kinetics_sounds.redact import of_url, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HTTP Error 403: Forbidden", "HTTP Error 403: Forbidden"),
        ("see https://host.example/wiki/FAQ", "see https://host.example/wiki/FAQ"),
        ("https://host.example/a#token=abc. Then", "https://host.example/a#*** Then"),
        (
            "Error opening https://manifest.googlevideo.com/api/manifest/ip/192.0.2.4/sig/ABCD/index.m3u8 there",
            "Error opening https://manifest.googlevideo.com/*** there",
        ),
        (
            "https://rr3---sn-ab5.googlevideo.com:443/videoplayback/x?y=1",
            "https://rr3---sn-ab5.googlevideo.com:443/***?***",
        ),
        ("https://mirror.example/googlevideo.com/x", "https://mirror.example/googlevideo.com/x"),
        ("http://me:word@host.example:8080/a", "http://***@host.example:8080/a"),
        ("socks5h://me@host.example", "socks5h://***@host.example"),
        ("https://host.example/a@b/c", "https://host.example/a@b/c"),
        ("to https://host.example/v?expire=1&sig=ABC. Then", "to https://host.example/v?*** Then"),
        (
            "'https://a.example/?x=1' and https://b:c@d.example/?y#z",
            "'https://a.example/?*** and https://***@d.example/?***#***",
        ),
        ("http://***@host.example/a?***#***: is gone", "http://***@host.example/a?***#***: is gone"),
        ("http://host.example/a?***&sig=ABC: is", "http://host.example/a?*** is"),
        ("https://me:wo'rd@host.example/set?sig=ab'cd there", "https://***@host.example/set?*** there"),
        ("<https://me:a\"b<c>d@host.example/a'b?sig=1>2 there", "<https://***@host.example/a'b?*** there"),
        ("'http://***@host.example/a?***'", "'http://***@host.example/a?***'"),
        ("HTTPS://ME:WORD@HOST.EXAMPLE", "HTTPS://***@HOST.EXAMPLE"),
    ],
)
def test_a_url_is_told_without_user_and_query(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_known_secret_is_hidden_wherever_it_stands_the_longest_first() -> None:
    assert redact("token abcdef, then abcd", ["abcd", "abcdef"]) == "token ***, then ***"


def test_a_secret_too_short_to_be_one_does_not_spoil_every_word() -> None:
    assert redact("a message", ["a", "", "ess"]) == "a message"


def test_the_secrets_of_a_url_are_known_as_written_and_as_meant() -> None:
    assert set(of_url("http://me:p%40ss@host:1")) == {"me:p%40ss", "p%40ss", "me:p@ss", "p@ss"}
    assert set(of_url("me:word@host:1")) == {"me:word", "word"}
    assert of_url("http://host:1/path") == []
    query = {
        "sig=ab%2Fcdefgh1j.g&n=1",
        "sig=ab/cdefgh1j.g&n=1",
        "ab%2Fcdefgh1j.g",
        "ab/cdefgh1j.g",
        "2Fcdefgh1j",
        "cdefgh1j",
    }
    assert set(of_url("http://host:1/path?sig=ab%2Fcdefgh1j.g&n=1#there")) == query | {"there"}
    assert set(of_url("//me:w'o rd@host:1")) == {"me:w'o rd", "w'o rd"}
    assert of_url("hf://datasets/me/set@main/train") == []
    assert of_url("") == []


def test_the_words_of_a_query_and_the_place_of_an_id_are_no_secrets() -> None:
    assert of_url("http://mirror/get?v={youtube_id}") == []
    assert of_url("http://mirror/get?format=video&source=http&v={youtube_id}") == [
        "format=video&source=http&v={youtube_id}"
    ]
    said = "format h264 of the video of http, Requested"
    assert redact(said, of_url("http://mirror/get?format=video&source=http&a=h264&b=Requested/now")) == said


@pytest.mark.parametrize(
    "told", ["a/b'c d\"e", "a/b\\'c  d\"e", "a/b'c d\\\"e", "a%2fb%27c%20d%22e", "a/b\\'c\nd\\\"e", "a%2Fb'c+d\"e"]
)
def test_a_secret_is_hidden_however_it_is_quoted(told: str) -> None:
    assert redact(f"no {told}, there", ["a/b'c d\"e"]) == "no ***, there"
