"""Read Kinetics annotation CSVs from a path, a URL or the official location."""

import csv
import hashlib
import http.client
import io
import sys
import time
import urllib.error
import urllib.parse
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from . import files, retry, web
from .classes import normal
from .clip import SPLITS, Clip
from .errors import AnnotationError
from .quantities import first_lines
from .redact import of_url, redact, redact_url

OFFICIAL = "https://s3.amazonaws.com/kinetics/400/annotations/{split}.csv"
"""URL of the Kinetics-400 annotations in the public CVDF mirror."""

_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
SPLIT_NAMES = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
"""Split names used by lists; DeepMind's re-release says "validate"."""
_MAX_BYTES = 256 << 20
BACKOFF = retry.Backoff(attempts=4, first_seconds=0.1, longest_seconds=5.0, jitter_seconds=1.0)
"""Retries of a failed download."""
_RETRY_SECONDS = 120.0
"""No new attempt starts after this many seconds."""
_SECONDS = 600.0
"""Time limit of a download in seconds, over all attempts; the largest official list has 14 MB."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """The requested rows of one annotation list."""

    clips: tuple[tuple[Clip, int], ...]
    """Each requested clip with the number of the line that its row ends on."""
    labels: Counter[str]
    """Number of rows by label, requested or not."""


def read(
    place: str | Path,
    *,
    labels: Iterable[str] | None,
    splits: Iterable[str] = SPLITS,
    youtube_ids: Container[str] | None = None,
) -> Annotations:
    """Read the clips of the given labels, splits and videos, in file order; None selects all.

    Both header styles are accepted (with and without `is_cc`; other columns are ignored), and "validate" means val. Labels are
    returned as spelt in `labels`, whatever Unicode form the file uses. Raises AnnotationError for an unreadable file, a missing
    column, a list without labels, or requested rows that are not valid clips, each on a line of its own.
    """
    path, wanted = Path(place), set(splits)
    spelt = {normal(label): label for label in labels or ()}
    try:
        text = files.read_text(path)
    except FileNotFoundError as error:
        raise AnnotationError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise AnnotationError(f"{path}: cannot be read as a UTF-8 CSV: {why}") from error
    if mark := files.other_separator(text):
        raise AnnotationError(
            f"{path}: its columns are separated by {mark!r}; save it with commas: a Kinetics CSV begins with the line "
            f"{','.join(_COLUMNS)}"
        )
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found: list[tuple[Clip, int]] = []
    wrong: list[str] = []
    seen = Counter[str]()
    try:
        _check_header(path, rows.fieldnames or [])
        for row in rows:
            label = (row["label"] or "").strip()
            label = spelt.get(normal(label), label)
            seen[label] += 1
            if labels is not None and normal(label) not in spelt:
                continue
            if youtube_ids is not None and (row["youtube_id"] or "").strip() not in youtube_ids:
                continue
            split = SPLIT_NAMES.get((row["split"] or "").strip().lower())
            if split is not None and split not in wanted:
                continue
            try:
                found.append((_clip(row, sys.intern(label), split), rows.line_num))
            except ValueError as error:
                wrong.append(f"{path}:{rows.line_num}: {error}")
    except csv.Error as error:
        wrong.insert(0, f"{path}:{rows.line_num}: is not a CSV: {error}; look for an unclosed quote")
    if wrong:
        raise AnnotationError(first_lines(wrong))
    return Annotations(tuple(found), seen)


def _check_header(path: Path, header: Iterable[str]) -> None:
    missing = [column for column in _COLUMNS if column not in header]
    if missing == ["label"]:
        raise AnnotationError(
            f"{path}: has no column 'label': this is the original test list without labels; use DeepMind's "
            f"re-release instead ({OFFICIAL.format(split='test')}), or leave the test split out with --splits train,val"
        )
    if missing:
        raise AnnotationError(
            f"{path}: has no column {', '.join(map(repr, missing))}; a Kinetics CSV begins with the line "
            f"{','.join(_COLUMNS)} (found: {', '.join(map(repr, header)) or 'nothing'})"
        )


def _clip(row: dict[str, str | None], label: str, split: str | None) -> Clip:
    """Clip of a row; raises ValueError if it is none."""
    if lacks := [column for column in _COLUMNS if row[column] is None]:
        raise ValueError(
            f"the row lacks its {', '.join(lacks)}; fix or remove the row (a label that holds a comma must stand in "
            '"quotes")'
        )
    if split is None:
        raise ValueError(f"split {row['split']!r} is none of {', '.join(SPLIT_NAMES)}")

    def second(column: str) -> int:
        text = (row[column] or "").strip()
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if value < 0 or not value.is_integer():
            why = "" if text else ": the row has no time"
            raise ValueError(f"{column} {text!r} is not a whole number of seconds{why}; fix or remove the row")
        return int(value)

    start, end = second("time_start"), second("time_end")
    try:
        return Clip((row["youtube_id"] or "").strip(), start, end, label, split)
    except ValueError as error:
        raise ValueError(f"{error}; fix or remove the row") from error


def fetch(place: str, folder: Path) -> Path:
    """Local path of an annotation list: a path unchanged, a URL downloaded once into `folder`."""
    if not place.startswith(("http://", "https://")):
        return files.user_path(place)
    address = hashlib.sha256(place.encode()).hexdigest()[:8]  # two servers may both call theirs val.csv
    path = folder / f"{address}-{Path(urllib.parse.urlsplit(place).path).name}"
    if not path.is_file():
        files.write_bytes(path, _download(place))
    return path


def _download(url: str) -> bytes:
    began = time.monotonic()

    def may_pass(error: Exception) -> bool:
        if isinstance(error, (web.RefusedError, web.SlowError)) or time.monotonic() >= began + min(
            _RETRY_SECONDS, _SECONDS
        ):
            return False
        return not isinstance(error, urllib.error.HTTPError) or web.may_pass(error.code)

    def receive() -> bytearray:
        with web.open_url(url, named=named, ends=began + _SECONDS) as answer:
            data = bytearray()
            for chunk in web.with_progress(url, iter(lambda: answer.read1(1 << 20), b"")):
                data += chunk
                if len(data) > _MAX_BYTES:
                    break
            if len(data) < min(int(answer.headers.get("Content-Length", 0)), _MAX_BYTES):
                raise ConnectionError(f"cut off after {len(data)} bytes")
        return data

    try:
        named = web.host(url)
        data = retry.call(receive, may_pass=may_pass, backoff=BACKOFF)
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = redact(str(error), of_url(url))
        raise AnnotationError(
            f"{redact_url(url)}: cannot be downloaded ({why}); give a local copy, or the list of your own videos, "
            "with --annotations PATH"
        ) from error
    if len(data) > _MAX_BYTES:
        raise AnnotationError(
            f"{redact_url(url)}: is larger than {_MAX_BYTES >> 20} MiB; this is not an annotation list"
        )
    return bytes(data)
