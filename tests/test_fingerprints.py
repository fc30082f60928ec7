"""Fingerprints, held against sort and sha256sum, as anyone has them."""

import random
import shutil
import subprocess
import unicodedata

import pytest

from kinetics_sounds import fingerprints

ROWS = [
    ("-a_000001_000011", "playing drums", "train"),
    ("b_000001_000011", "playing “guitar”, loud", "val"),
    ("a_000001_000011", "tapping pen", "test"),
]


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")
def test_sort_and_sha256sum_say_the_same() -> None:
    lines = "".join("\t".join(row) + "\n" for row in ROWS)
    out = subprocess.run(
        "LC_ALL=C sort | sha256sum", shell=True, input=lines.encode(), capture_output=True, check=True
    ).stdout.decode()

    assert fingerprints.selection(ROWS) == out.split()[0]


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = random.Random(0).sample([(*row, "0" * 64) for row in ROWS], len(ROWS))

    assert fingerprints.selection(row[:3] for row in rows) == fingerprints.selection(ROWS)
    assert fingerprints.content(rows) == fingerprints.content((*row, "0" * 64) for row in ROWS)


def test_each_column_counts() -> None:
    key, label, split = ROWS[0]
    changed = [("c_000001_000011", label, split), (key, "tapping pens", split), (key, label, "val")]

    assert len({fingerprints.selection([row, *ROWS[1:]]) for row in (ROWS[0], *changed)}) == 4
    assert fingerprints.content([(*ROWS[0], "0" * 64)]) != fingerprints.content([(*ROWS[0], "1" * 64)])


def test_a_label_is_one_label_in_whichever_form_unicode_writes_it() -> None:
    forms = {unicodedata.normalize(form, "playing accordéon") for form in ("NFC", "NFD")}
    assert len(forms) == 2
    assert len({fingerprints.selection([("a_000001_000011", label, "val")]) for label in forms}) == 1


def test_nothing_is_the_hash_of_nothing() -> None:
    assert (
        fingerprints.selection([])
        == fingerprints.content([])
        == ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )
