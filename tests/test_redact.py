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
            "'https://a.example/?***' and https://***@d.example/?***#***",
        ),
        ("http://***@host.example/a?***#***: is gone", "http://***@host.example/a?***#***: is gone"),
        ("http://host.example/a?***&sig=ABC: is", "http://host.example/a?*** is"),
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
    query = {"sig=ab%2Fcdef.g&n=1", "sig=ab/cdef.g&n=1", "ab%2Fcdef.g", "ab/cdef.g", "2Fcdef", "ab", "cdef", "g", "1"}
    assert set(of_url("http://host:1/path?sig=ab%2Fcdef.g&n=1#there")) == query | {"there"}
    assert of_url("") == []
