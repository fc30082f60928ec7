"""A small build whose clips can be played, made without ks-build; and pages read back."""

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from kinetics_sounds.clip import Clip, Outcome, Status

from ..conftest import video
from ..publishing import builds

HOSTILE = "=</script><img src=x onerror=alert(1)>\"'&"
LABELS = ("humming", "tapping pen", HOSTILE)


def clips() -> list[Clip]:
    """Ten of three classes: four, three and three of them, in three splits."""
    return [Clip(f"-id{n:08d}", n, n + 2, LABELS[n % 3], ("train", "train", "val", "test")[n % 4]) for n in range(10)]


def outcomes() -> list[Outcome]:
    """Of the ten clips three are not ok; of the seven two are silent, and one has three decode errors."""
    gone = {2: Status.PRIVATE, 5: Status.PRIVATE, 8: Status.TOO_SHORT}
    return [
        Outcome(
            clip=clip,
            status=gone.get(n, Status.OK),
            detail=f"ERROR: {HOSTILE}" if n in gone else "",
            source="youtube" if n in gone else "local:/videos",
            media=None
            if n in gone
            else builds.media(
                clip,
                path=f"clips/{n % 3} #?%/{clip.key}.mp4",
                duration_seconds=2.0 + n / 100,
                silent=n in (0, 1),
                decode_errors=3 if n == 3 else 0,
            ),
        )
        for n, clip in enumerate(clips())
    ]


def build(folder: Path) -> Path:
    """The build's folder, with its clips of two seconds."""
    for each in outcomes():
        if each.media is not None:
            video(
                folder / each.media.path,
                seconds=2,
                seed=int(each.clip.time_start),
                tone_hz=300 + 90 * each.clip.time_start,
            )
    builds.write(folder, outcomes(), labels=LABELS)
    return folder


def document(page: Path, name: str = "document") -> Any:
    """What a page carries."""
    text = page.read_text("utf-8")
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, flags=re.DOTALL)
    assert found
    return json.loads(found[1])


def values(column: dict[str, Any]) -> list[Any]:
    """A packed column's values, as the page reads them."""
    data = zlib.decompress(base64.b64decode(column["data"]))
    if column["kind"] == "text":
        return data.decode().split("\n")
    if column["kind"] == "number":
        return list(np.frombuffer(data, "<f4").tolist())
    if column["kind"] == "flags":
        bits = np.frombuffer(data, "<u2")
        return [{name for n, name in enumerate(column["values"]) if row >> n & 1} for row in bits]
    return [column["values"][number] for number in np.frombuffer(data, f"<u{column['width']}")]


def columns(page: Path) -> dict[str, list[Any]]:
    """All columns of a page's table by name."""
    return {column["name"]: values(column) for column in document(page)["columns"]}
