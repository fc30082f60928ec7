"""Make a page from datasets and runs: its table, clips and runs."""

import glob
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kinetics_sounds import files, progress
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.eval_results import is_chosen
from kinetics_sounds.media.preview import Preview
from kinetics_sounds.quantities import plural

from ..publishing import check, result_settings, run_facts
from ..publishing.result_settings import Asked
from . import columns, media, page, pictures, run_settings, selections, sets
from .columns import Packed
from .runs import Result, Run
from .sets import OK, Row, Set

NUMBERS = {
    "duration_seconds": ("duration", "s", 2),
    "fps": ("frame rate", "frames/s", 2),
    "short_side": ("short side", "pixels", 0),
    "megabytes": ("file size", "MB", 3),
    "audio_rms_db": ("loudness, RMS", "dB", 1),
    "audio_offset_seconds": ("audio offset", "s", 3),
    "decode_errors": ("decode errors", "", 0),
}
"""Columns of numbers: title, unit, decimals."""
LEAST_DB = -80.0
"""Level in dBFS below which clips share a histogram bin: they are practically silent."""
MOST_DETAIL = 300
"""Maximum length of a message, in characters."""
MOST_LETTERS = 100
"""Maximum length of a setting's value."""
MOST_FINDINGS = 500
"""Maximum number of duplicates and leaks that are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Summary of a written page."""

    rows: int
    embedded: int
    failed: tuple[str, ...]
    """Clips that could not be embedded, each with the reason."""
    notes: tuple[str, ...]
    """Scores that are not of the shown clips."""


def write(
    out: Path,
    *,
    title: str,
    found: Sequence[Set],
    ran: Sequence[Run],
    embed: int,
    seed: int,
    timeout_seconds: float,
    lines: Sequence[str] = (),
) -> Written:
    """Write a page of datasets and runs to a file; `lines` are shown first below its title."""
    rows = [(its, row) for its in found for row in its.rows]
    chosen = media.choose(found, embed, seed=seed)
    embedded, failed = [], []
    notes = selections.differing(found, ran)
    names, settings_left = run_settings.shown([run.settings for run in ran])
    files.remove_parts(out.parent, glob.escape(out.name))
    with files.atomic_writer(out) as file:  # opened first: where it cannot be written, no clip is encoded
        for number, row, result in media.embed(chosen, timeout_seconds=timeout_seconds):
            if isinstance(result, Preview):
                embedded.append(_embedded(number, result))
            else:
                failed.append(f"{row.key}: {result}")
        document = {
            "columns": _columns(rows, {each["row"] for each in embedded}, out) if rows else [],
            "count": len(rows),
            "sets": [_set(its) for its in found],
            "findings": _findings(found),
            "runs": _runs(ran, names),
            "settings_left": settings_left,
            "notes": notes,
        }
        told = [*lines, *(_about(its) for its in found), *_about_media(rows, {each["row"] for each in embedded}, seed)]
        file.write(page.html_of(title=title, lines=told, document=document, media=embedded))
    return Written(rows=len(rows), embedded=len(embedded), failed=tuple(failed), notes=tuple(notes))


def _embedded(number: int, made: Preview) -> Mapping[str, Any]:
    mel = None if made.mel_FT is None else page.data_url("image/png", pictures.png(made.mel_FT))
    return {"row": number, "video": page.data_url("video/mp4", made.mp4), "mel": mel}


def _columns(rows: Sequence[tuple[Set, Row]], embedded: set[int], out: Path) -> list[Packed]:
    every = [row for _, row in rows]
    bases = {its.name: _base(its, out) for its in {its.name: its for its, _ in rows}.values()}
    where = ["in this page" if n in embedded else "on disk" if row.file else "none" for n, row in enumerate(every)]
    packed = [
        columns.text("key", "key", [row.key for row in every]),
        columns.words("status", "outcome", [row.status for row in every], order=[OK]),
        columns.words("label", "class", [row.label for row in every], order=sorted({row.label for row in every})),
        *([columns.text("labels", "all labels", labels)] if any(labels := [row.labels for row in every]) else []),
        columns.words("split", "split", [row.split for row in every], order=SPLITS),
        columns.words("source", "source", [row.source for row in every]),
        *(
            [columns.text("origin", "file of the source", origins)]
            if any(origins := [row.origin for row in every])
            else []
        ),
        columns.words("set", "set", [its.name for its, _ in rows]),
        columns.flags("flags", "flags", [row.flags for row in every], order=sets.FLAGS),
        columns.words("where", "clip file", where, order=("in this page", "on disk", "none")),
        *(
            columns.number(
                name,
                title,
                [_number(row, name) for row in every],
                unit=unit,
                digits=digits,
                least=LEAST_DB if unit == "dB" else -math.inf,
            )
            for name, (title, unit, digits) in NUMBERS.items()
        ),
        columns.text("detail", "message", [row.detail[:MOST_DETAIL] for row in every]),
        columns.words("file", "file", [_pattern(bases[its.name], row) for its, row in rows]),
    ]
    return [column for column in packed if column["name"] == "file" or _says_something(column)]


def _says_something(column: Packed) -> bool:
    """Whether a column has different values, or any information at all."""
    if column["kind"] == "number":
        return column["bins"] is not None
    if column["name"] == "set":
        return len(column["values"]) > 1
    return (
        column["kind"] == "text" or column["name"] in ("status", "label", "split") or column["values"] not in ([], [""])
    )


def _number(row: Row, name: str) -> float | None:
    if name == "megabytes":
        return None if row.bytes is None else row.bytes / 1e6
    value: float | None = getattr(row, name)
    return value


def _base(its: Set, out: Path) -> str:
    """Path from the page's folder to a dataset's, with a trailing slash; empty if they are the same, or it has none."""
    if its.folder is None:
        return ""
    base = files.as_text(os.path.relpath(its.folder.absolute(), out.absolute().parent))
    return "" if base == "." else f"{base}/"


def _pattern(base: str, row: Row) -> str:
    """Path of a clip relative to the page, with a zero byte in place of its key: few distinct texts for many clips."""
    return base + row.file.replace(row.key, "\0", 1) if row.file else ""


def _set(its: Set) -> Mapping[str, Any]:
    return {"name": its.name, "kind": its.kind, "classes": its.classes, "note": its.note}


def _findings(found: Sequence[Set]) -> Mapping[str, Any]:
    every = [finding for its in found for finding in its.findings]
    shown = [
        {"kind": each.kind, "place": each.place, "what": each.what, "keys": list(each.keys[: check.MOST_KEYS])}
        for each in every[:MOST_FINDINGS]
    ]
    return {"count": len(every), "shown": shown}


def _about(its: Set) -> str:
    ok = sum(row.status == OK for row in its.rows)
    count, labels = len(its.rows), len({row.label for row in its.rows if row.label})
    told = f"{its.name} ({its.kind} of {its.classes}): {count} clips of {labels} classes, {ok} of them ok."
    told += " Only its indexes were read, so its clips cannot be played here." if its.folder is None else ""
    return f"{told} Note: {its.note}." if its.note else told


def _about_media(rows: Sequence[tuple[Set, Row]], embedded: set[int], seed: int) -> list[str]:
    """A line on which clips can be played; none if all are at URLs."""
    here = [(number, row) for number, (its, row) in enumerate(rows) if its.folder is not None]
    if not here:
        return []
    rest = [row for number, row in here if number not in embedded and (row.file or row.sample >= 0)]
    if not embedded and not rest:
        return ["Their files are not here, so no clip can be played."]
    linked = sum(bool(row.file) for row in rest)
    told: list[str] = []
    if embedded:
        sample = (
            f"{plural(len(embedded), 'clip')}, a sample drawn with seed {seed}" if rest else "all clips with a file"
        )
        told += [f"Embedded, small, with mel-spectrograms: {sample}."]
    if linked:
        told += [
            f"Played from their files, found relative to this page, without a mel-spectrogram: {plural(linked, 'clip')}."
        ]
    if packed := len(rest) - linked:
        told += [f"Only in the shards: {plural(packed, 'clip')}; --embed embeds more."]
    return [" ".join(told)]


def _runs(ran: Sequence[Run], names: Sequence[str]) -> list[Mapping[str, Any]]:
    found = [list(_beside(run.results)) for run in ran]
    told = iter(result_settings.distinctions([_without_paths(result.asked) for results in found for result in results]))
    return [_run(run, names, [(each, next(told)) for each in results]) for run, results in zip(ran, found, strict=True)]


def _without_paths(asked: Asked) -> Asked:
    return replace(asked, settings=run_facts.clean(dict(asked.settings)))


def _beside(found: Sequence[Result]) -> Iterator[Result]:
    """Results, of which untrained ones have the clips and settings of each trained one whose baseline they are."""
    trained = {each.asked.digest: each for each in found if not each.untrained}
    for result in found:
        same = [each for each in trained.values() if result.untrained and each.baseline == result.baseline]
        yield from (replace(result, asked=each.asked) for each in same)
        if not same:
            yield result


def _run(run: Run, names: Sequence[str], results: Sequence[tuple[Result, str]]) -> Mapping[str, Any]:
    """A run with the settings of these names, and its results, each with what tells it from others of the same probe."""
    return {
        "name": run.name,
        "published": run.published,
        "facts": run.facts,
        "settings": {name: run.settings[name][:MOST_LETTERS] for name in names if name in run.settings},
        "curves": {name: asdict(curve) for name, curve in run.curves.items()},
        "results": [
            {name: value for name, value in asdict(result).items() if name not in ("asked", "baseline")}
            | {"basis": result.asked.digest, "differs": differs}
            | {"chosen": [name for name in result.scores if is_chosen(name)]}
            for result, differs in results
        ],
        "bad": list(run.bad),
        "bad_count": run.bad_count,
        "maps": [
            {"key": each.key, "label": each.label, "score": each.score, "image": page.data_url("image/jpeg", each.jpeg)}
            for each in run.maps
        ],
        "map_count": run.map_count,
        "neighbours": run.neighbours,
    }


def tell(written: Written) -> None:
    """Log the clips that could not be embedded, and scores that are not of the shown clips."""
    for each in written.notes:
        progress.log.warning("%s", each)
    for each in written.failed:
        progress.log.warning("not embedded: %s", each)
