"""The page is whole, offline, and safe to open whatever its strings say."""

import math
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from kinetics_sounds.pipelines import html_page

HOSTILE = "<script>alert(1)</script>\"' onerror=x &amp;"
VOID = {"meta", "img"}


def sample(key: str = "abc_1_5", label: str = "turning") -> html_page.Sample:
    mel_FT = np.linspace(0, 1, 6 * 4).reshape(6, 4)
    return html_page.Sample(key, label, video=b"\x00mp4" * 9, audio=b"fLaC" * 9, mel_FT=mel_FT)


def page(tmp_path: Path, **content: object) -> str:
    path = tmp_path / "report.html"
    empty: dict[str, object] = {"title": "A run", "lines": [], "samples": [], "curves": [], "scores": []}
    html_page.write(path, **{**empty, **content})
    return path.read_text(encoding="utf-8")


class Balance(HTMLParser):
    """Which tags occur, and that each is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def full(tmp_path: Path, text: str) -> str:
    return page(
        tmp_path,
        title=text,
        lines=[text],
        samples=[sample(text, text), sample()],
        curves=[html_page.Curve(text, (0, 1, 2), (3.0, math.nan, 1.0)), html_page.Curve(text, (0,), (math.inf,))],
        scores=[{text: text, "top1": 0.5}, {"top1": 1 / 3}],
    )


def test_hostile_strings_are_shown_and_never_run(tmp_path: Path) -> None:
    text = full(tmp_path, HOSTILE)
    tags = Balance(text).tags

    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27; onerror=x &amp;amp;" in text
    assert not [attrs for _, attrs in tags if any(name.startswith("on") for name in attrs)]
    assert {tag for tag, _ in tags} == {tag for tag, _ in Balance(full(tmp_path, "plain")).tags}


def test_page_needs_no_network_and_forbids_it(tmp_path: Path) -> None:
    text = full(tmp_path, "plain")
    tags = Balance(text).tags

    assert "http://" not in text
    assert "https://" not in text
    assert all(attrs["src"].startswith("data:") for _, attrs in tags if attrs.get("src"))  # type: ignore[union-attr]
    assert "href" not in {name for _, attrs in tags for name in attrs}
    (policy,) = (attrs["content"] for _, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def test_samples_carry_video_audio_and_picture(tmp_path: Path) -> None:
    text = page(tmp_path, samples=[sample(), sample("def_0_4")])
    tags = Balance(text).tags

    assert [tag for tag, _ in tags if tag in {"video", "img", "audio"}] == ["video", "img", "audio"] * 2
    assert all("controls" in attrs for tag, attrs in tags if tag in {"video", "audio"})
    assert "data:video/mp4;base64,AG1wNABtcDQA" in text
    assert "data:audio/flac;base64,ZkxhQ2ZMYUNm" in text
    assert "def_0_4" in text
    assert len(text) < 8_000


def decode(png: bytes) -> npt.NDArray[np.uint8]:
    """Colours [shape=(rows, columns, 3)] of an indexed PNG whose rows are unfiltered."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        name, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (zlib.crc32(name + body),)
        chunks[name], at = body, at + 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 3, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return np.asarray(np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(256, 3)[rows[:, 1:]])


def test_mel_picture_has_low_bands_at_the_bottom_and_grows_lighter_with_loudness() -> None:
    picture = decode(html_page.png(np.linspace(0, 1, 64)[:, None].repeat(3, axis=1)))

    assert picture.shape == (64, 3, 3)
    brightness = picture[:, 0] @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) < 0).all()
    assert brightness[-1] < 12
    assert brightness[0] > 230


def test_mel_values_outside_zero_to_one_or_not_numbers_still_draw() -> None:
    odd = decode(html_page.png(np.array([[-3.0, math.nan, 7.0]])))
    even = decode(html_page.png(np.array([[0.0, 0.0, 1.0]])))

    assert odd.tolist() == even.tolist()


def test_curve_leaves_out_what_is_not_finite_and_says_so(tmp_path: Path) -> None:
    text = page(tmp_path, curves=[html_page.Curve("loss", (0, 1, 2, 3), (4.0, math.nan, math.inf, 2.0))])

    assert "2 of 4 values not finite, left out" in text
    (track,) = (attrs["points"] for tag, attrs in Balance(text).tags if tag == "polyline")
    assert track == "48.0,8.0 328.0,166.0"  # the first value at the top left of the frame, the last at its bottom right
    assert "nan" not in text


def test_curve_without_one_finite_value_has_no_chart(tmp_path: Path) -> None:
    text = page(
        tmp_path, curves=[html_page.Curve("loss", (0, 1), (math.nan, -math.inf)), html_page.Curve("empty", (), ())]
    )

    assert "2 of 2 values not finite, left out" in text
    assert "no values" in text
    assert "<svg" not in text


@pytest.mark.parametrize("values", [(2.0,), (0.0, 0.0), (1e20, 1e20)])
def test_flat_curve_has_a_range(tmp_path: Path, values: tuple[float, ...]) -> None:
    text = page(tmp_path, curves=[html_page.Curve("flat", tuple(range(len(values))), values)])

    assert ",87.0" in text  # half way up


def test_curve_of_unequal_lengths_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        page(tmp_path, curves=[html_page.Curve("loss", (0, 1), (1.0,))])

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0, 200, [0, 50, 100, 150, 200]), (-0.3, 4.1, [0, 2, 4]), (93, 97, [93, 94, 95, 96, 97])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert html_page.ticks(low, high) == expected


def test_scores_have_the_union_of_columns_in_order_of_appearance(tmp_path: Path) -> None:
    text = page(
        tmp_path, scores=[{"probe": "linear", "top1": 0.91234}, {"probe": "knn", "clips": 12000.0, "top1": 0.9}]
    )

    assert re.findall(r"<th[^>]*>([^<]*)</th>", text) == ["probe", "top1", "clips"]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", text) == ["linear", "0.9123", "", "knn", "0.9", "12,000"]


def test_sections_with_nothing_to_show_are_absent(tmp_path: Path) -> None:
    text = page(tmp_path, lines=["One line."])

    assert "<section" not in text
    assert "<h2" not in text
    assert "<p>One line.</p>" in text
