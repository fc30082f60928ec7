"""Every real file, a third of them odd or broken, goes the whole way; skipped where the data are not beside the checkout."""

import csv
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kinetics_sounds import manifest
from kinetics_sounds.clip import Clip
from kinetics_sounds.pipelines import build, shard

VIDEOS = Path(__file__).parents[3] / "shared" / "data" / "videos"
SECONDS = 1
"""Of the span that is cut out of each."""
SMALL_BYTES = 300_000
"""Files up to this size go through once more, as if they were cut to their span already, for which they are decoded whole."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"no test data at {VIDEOS}"),
]


def described() -> list[dict[str, str]]:
    """What is known of each file."""
    with (VIDEOS / "manifest.csv").open(newline="") as text:
        return list(csv.DictReader(text))


def right(facts: Mapping[str, str], seconds: float) -> set[str]:
    """The statuses that fit what is known of a file of which the first `seconds` are asked for."""
    if facts["decode_rc"] != "0":
        return {"corrupt", "no_video"}
    if not facts["vcodec"]:
        return {"no_video"}
    if facts["n_audio"] == "0":
        return {"no_audio"}
    if facts["duration"] and float(facts["duration"]) < 0.9 * seconds:
        return {"too_short"}
    return {"ok"} if facts["decode_errors"] == "0" else {"ok", "corrupt"}  # by how much of the span is damaged


SAMPLE = 8
"""Files with nothing special that `make test` takes, of the small ones; and all those that are broken."""


def some() -> list[dict[str, str]]:
    """A sample."""
    rows = [facts for facts in described() if int(facts["bytes"]) <= SMALL_BYTES]
    broken = [facts for facts in rows if facts["decode_rc"] != "0" or not facts["vcodec"]]
    return broken + random.Random(0).sample([facts for facts in rows if facts not in broken], SAMPLE)


@pytest.mark.parametrize("taken", [some, pytest.param(described, marks=pytest.mark.slow_campaign)])
def test_every_file_ends_with_the_right_status_and_takes_no_other_down(
    taken: Callable[[], list[dict[str, str]]], tmp_path: Path
) -> None:
    rows, known = ["label,youtube_id,time_start,time_end,split"], {}
    (tmp_path / "videos").mkdir()
    for number, facts in enumerate(taken()):
        path = VIDEOS / facts["file"]
        whole, named = f"-whole_{number}", Clip(f"-named_{number}", 7, 7 + SECONDS, "something", "val")
        (tmp_path / f"videos/{whole}{path.suffix}").symlink_to(path)
        rows.append(f"something,{whole},0,{SECONDS},val")
        known[f"{whole}_000000_{SECONDS:06d}"] = facts
        if int(facts["bytes"]) <= SMALL_BYTES:
            (tmp_path / f"videos/{named.key}{path.suffix}").symlink_to(path)
            rows.append(f"something,{named.youtube_id},7,{7 + SECONDS},val")
            known[named.key] = facts
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "classes.txt").write_text("something\n")
    lists = ["--classes", str(tmp_path / "classes.txt"), "--annotations", str(tmp_path / "list.csv"), "--splits", "val"]
    where = ["--source", f"local:{tmp_path / 'videos'}", "--out", str(tmp_path / "out"), "--retry_wait", "0.1"]

    assert build.main([*lists, *where, "--workers", "2"]) == 1

    found = {outcome.clip.key: outcome for outcome in manifest.read(tmp_path / "out/manifest.parquet").outcomes}
    assert set(found) == set(known)
    wrong = {
        f"{known[key]['file']} as {key}": f"{outcome.status} ({outcome.detail}), not {right(known[key], SECONDS)}"
        for key, outcome in found.items()
        if outcome.status not in right(known[key], SECONDS)
    }
    assert wrong == {}

    code = shard.main(["--manifest", str(tmp_path / "out/manifest.parquet"), "--workers", "2"])

    packed = json.loads((tmp_path / "out/shards/dataset.json").read_text())["splits"]["val"]
    usable = sum(outcome.media is not None for outcome in found.values())
    assert (code, packed["samples"], packed["left"]) == (0, usable, 0)
