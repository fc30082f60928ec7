"""README.md of a published folder, a dataset card in the Hub's format; and its license, citation and change log."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from kinetics_sounds import __version__, files

from .contents import CHANGES, CITATION, CLASSES, CROISSANT, DATASHEET, FINGERPRINTS, LICENSE, SUMS
from .facts import Counts, Facts, shard_facts
from .markdown import code, escape, plain, table

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The Hub's size categories, with their upper limits."""
MOST_LABELS = 5
"""Maximum number of labels listed in an entry of CHANGES.md."""
HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Names of the splits on the Hub."""

TAKE_DOWN = (
    "The lists name public videos by their ids. A video belongs to its uploader, and may show people who did not agree "
    "to be in a dataset. To have a row removed, contact the publisher (for example in the Discussions of this page): "
    "it is removed in the next version."
)
NO_MEDIA = "This folder contains no media: only IDs, times, labels, checksums and measurements."
WITH_MEDIA = (
    "The folder `clips/` contains media. YouTube's terms and the rights of the videos' authors restrict sharing them: check "
    "this before you make the folder public."
)


def card(facts: Facts) -> bytes:
    """Contents of README.md."""
    head = yaml.safe_dump(_head(facts), sort_keys=False, allow_unicode=False, width=1000)
    parts = [
        _what(facts),
        _counts(facts),
        _classes(facts.counts, facts),
        _fingerprints(facts),
        _files(facts),
        *([_shards(facts)] if facts.shards else []),
        _terms(facts),
    ]
    return ("---\n" + head + "---\n\n" + "\n".join(line for part in parts for line in (*part, ""))).rstrip(
        "\n"
    ).encode() + b"\n"


def title(facts: Facts) -> str:
    """Title of the dataset."""
    return f"Kinetics-Sounds {plain(facts.published.name)}, version {facts.published.version}"


def _head(facts: Facts) -> dict[str, Any]:
    rows = facts.annotated
    size = next((name for below, name in SIZES if rows < below), "1M<n<10M")
    files = [{"split": HUB_SPLITS[split], "path": f"splits/{split}.parquet"} for split in facts.counts.splits]
    return {
        "pretty_name": f"Kinetics-Sounds {plain(facts.published.name)}",
        "license": facts.license.hub,
        "task_categories": ["video-classification", "audio-classification"],
        "tags": ["kinetics", "kinetics-sounds", "audio-visual", "action-recognition", "youtube", "croissant"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def _what(facts: Facts) -> list[str]:
    classes = facts.classes
    note = f" {escape(classes.note[0].upper() + classes.note[1:])}" if classes.note else ""
    kind = "**a reconstruction** of a list that was never published, " if facts.is_reconstruction else ""
    return [
        f"# {escape(title(facts))}",
        "",
        (
            f"The clips of Kinetics in the dataset `{facts.published.name}`, by split: {kind}"
            f"{len(classes.labels)} classes, "
            f"{facts.annotated} annotated clips, of which {facts.ok} were available when it was built. Each row has the status "
            f"of its clip; the rows with `status` `ok` form the dataset. {WITH_MEDIA if facts.media else NO_MEDIA}"
        ),
        "",
        f"Classes: {code(classes.name)}.{note}",
        "",
        (
            "Made by ks-build of kinetics-sounds (clips are trimmed to the annotated span by decoding, audited, measured, and "
            f"identified by SHA-256) and ks-publish {__version__}. Rebuild it with"
        ),
        "",
        "```sh",
        "ks-build --clips FOLDER        # this folder; reports for each clip whether its bytes are the same, alike or different",
        "```",
    ]


def _counts(facts: Facts) -> list[str]:
    counts = facts.counts
    rows: list[list[object]] = []
    for split in counts.splits:
        annotated, ok = (
            sum(count for (place, _), count in counter.items() if place == split)
            for counter in (counts.annotated, counts.ok)
        )
        rows.append([split, annotated, ok, f"{ok / annotated:.1%}"])
    statuses = sorted({status for _, status in counts.statuses} - {"ok"})
    lost: list[list[object]] = [
        [status, *(counts.statuses[split, status] for split in counts.splits)] for status in statuses
    ]
    flags = counts.flags
    return [
        "## Coverage",
        "",
        *table(["split", "annotated", "ok", "coverage"], rows),
        "",
        (
            f"Of the ok clips {flags['silent']} are silent and {flags['still']} have a still picture (columns "
            f"`silent`, `still`); {flags['hashed']} have perceptual hashes that identify re-encoded copies."
        ),
        *(["", *table(["other statuses", *counts.splits], lost)] if lost else []),
    ]


def _classes(counts: Counts, facts: Facts) -> list[str]:
    def cell(split: str, label: str) -> str:
        return f"{counts.ok[split, label]} of {counts.annotated[split, label]}"

    rows: list[list[object]] = [
        [escape(label), *(cell(split, label) for split in counts.splits)] for label in facts.classes.labels
    ]
    return ["## Classes", "", "Number of ok clips, of annotated clips.", "", *table(["label", *counts.splits], rows)]


def _is_plain(label: str) -> bool:
    """Whether a label needs no quoting in a CSV."""
    return not any(mark in label for mark in ',"') and files.for_people(label) == label


def recipe(facts: Facts, *, content: bool) -> str:
    """Shell command that reproduces a fingerprint from the CSVs."""
    if all(_is_plain(label) for label in facts.classes.labels):
        print_ = '$6 "\\t" $1 "\\t" $5' + (' "\\t" $10' if content else "")
        return f"awk -F, '$7 == \"ok\" {{print {print_}}}' splits/*.csv | LC_ALL=C sort | sha256sum"
    columns = "r['key'], re.sub(r\\\"^'(?='*[=+@-])\\\", '', r['label']), r['split']" + (
        ", r['sha256']" if content else ""
    )
    return (
        f"python3 -X utf8 -c \"import csv, re, sys; [print({columns}, sep='\\t') for f in sys.argv[1:] "
        "for r in csv.DictReader(open(f, newline='')) if r['status'] == 'ok']\" splits/*.csv | LC_ALL=C sort | sha256sum"
    )


def _fingerprints(facts: Facts) -> list[str]:
    published = facts.published
    rows: list[list[object]] = [
        [split, each["clips"], f"`{each['selection']}`", f"`{each['content']}`"]
        for split, each in published.splits.items()
    ]
    labels = "first labels" if published.several_labels else "labels"
    rows.append(["all", facts.ok, f"`{published.selection}`", f"`{published.content}`"])
    return [
        "## Fingerprints",
        "",
        (
            f"*selection* is equal if and only if two datasets have the same clips with the same {labels} in the same splits, "
            "*content* if the bytes of all clips are equal too. A paper can state the selection to identify the clips it used."
        ),
        "",
        *table(["split", "clips", "selection", "content"], rows),
        "",
        "To reproduce selection and content:",
        "",
        "```sh",
        recipe(facts, content=False),
        recipe(facts, content=True),
        "```",
    ]


def _files(facts: Facts) -> list[str]:
    told: Mapping[str, str] = {
        "splits/": "a CSV and a Parquet file of each split, with the same rows; in the CSV a label that a spreadsheet would "
        "run as a formula is prefixed with `'`",
        CLASSES: "the labels in the order of `label_index`",
        FINGERPRINTS: "the fingerprints above, machine-readable",
        CROISSANT: "Croissant 1.1 metadata: `mlcroissant` loads the records",
        SUMS: "`sha256sum -c SHA256SUMS`; `ks-publish check FOLDER` checks more",
        DATASHEET: "answers about the dataset's origin and use",
        CITATION: "how to cite it",
        LICENSE: "terms",
        CHANGES: "changes of each version",
    }
    clips = ["- `clips/`: the clips, SPLIT/KEY.mp4"] if facts.media else []
    return ["## Files", "", *(f"- `{name}`: {what}" for name, what in told.items()), *clips]


def _shards(facts: Facts) -> list[str]:
    if facts.shards is None:
        return []
    return ["## Shards", "", *(f"- {escape(line)}" for line in shard_facts(facts.shards, facts.published))]


def _terms(facts: Facts) -> list[str]:
    return [
        "## Terms",
        "",
        f"The lists are under [{facts.license.title}]({facts.license.url}). {TAKE_DOWN} See {LICENSE}.",
    ]


def license_text(facts: Facts) -> bytes:
    """Contents of LICENSE.md."""
    lines = [
        "# Terms",
        "",
        f"The lists, tables and documents of this folder: {facts.license.title}, {facts.license.url}",
        "",
        (
            f"{WITH_MEDIA if facts.media else NO_MEDIA} The videos that the ids lead to are under the terms of YouTube "
            "(https://www.youtube.com/t/terms) and of whoever made them. The annotations are those of Kinetics, which their "
            "authors publish under Creative Commons Attribution 4.0."
        ),
        "",
        TAKE_DOWN,
    ]
    return ("\n".join(lines) + "\n").encode()


def citation(facts: Facts) -> bytes:
    """Contents of CITATION.cff, version 1.2.0."""
    kinetics = {
        "type": "article",
        "title": "The Kinetics Human Action Video Dataset",
        "authors": [{"family-names": "Kay", "given-names": "Will"}, {"name": "and others"}],
        "year": 2017,
        "url": "https://arxiv.org/abs/1705.06950",
    }
    sounds = {
        "type": "conference-paper",
        "title": "Look, Listen and Learn",
        "authors": [
            {"family-names": "Arandjelović", "given-names": "Relja"},
            {"family-names": "Zisserman", "given-names": "Andrew"},
        ],
        "year": 2017,
        "url": "https://arxiv.org/abs/1705.08168",
        "conference": {"name": "IEEE International Conference on Computer Vision"},
    }
    url = {"url": facts.url} if facts.url.startswith(("http://", "https://")) else {}
    document = {
        "cff-version": "1.2.0",
        "message": "If you use these splits, cite them with their version and selection, and the two works that they come from.",
        "type": "dataset",
        "title": title(facts).partition(",")[0],
        "abstract": f"Splits of Kinetics-Sounds {plain(facts.published.name)}; selection {facts.published.selection}.",
        "authors": [{"name": plain(facts.creator)}],
        "version": facts.published.version,
        "date-released": facts.date,
        "license": facts.license.spdx,
        **url,
        "keywords": ["Kinetics", "Kinetics-Sounds", "audio-visual"],
        "references": [kinetics, sounds],
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000).encode()


def changes(facts: Facts) -> bytes:
    """Contents of CHANGES.md: an entry per version, newest first."""
    return ("# Changes\n\n" + entry(facts) + (f"\n{facts.history}" if facts.history else "")).encode()


def entry(facts: Facts) -> str:
    """Entry of CHANGES.md for this version."""
    counts = ", ".join(f"{split} {each['clips']}" for split, each in facts.published.splits.items())
    lines = [f"## {facts.published.version} ({facts.date})", "", f"- clips: {counts or 'none'}"]
    told = {
        "records added": facts.changes.added,
        "records removed": facts.changes.removed,
        "records with changed label or split": facts.changes.moved,
        "clips with changed bytes": facts.changes.other_content,
        "missing clips with a changed reason": facts.changes.other_status,
    }
    lines += [
        f"- {what}: {', '.join(f'{split} {count}' for split, count in counted.items())}"
        for what, counted in told.items()
        if counted
    ]
    if remapped := facts.changes.remapped:
        lines.append(f"- labels whose label_index changed or disappeared: {len(remapped)} ({_some(remapped)})")
    if facts.history and not (remapped or any(told.values())):
        lines.append("- the same clips; documents or columns changed")
    return (
        "\n".join([*lines, f"- selection: {facts.published.selection}", f"- content: {facts.published.content}"]) + "\n"
    )


def _some(labels: Sequence[str]) -> str:
    """Up to `MOST_LABELS` labels, with the number of further ones."""
    more = f", and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return ", ".join(map(escape, labels[:MOST_LABELS])) + more


def classes_text(facts: Facts) -> bytes:
    """Contents of classes.txt, in the format of `ks-build --classes`."""
    classes = facts.classes
    lines = [
        f"# {plain(classes.name)}: {len(classes.labels)} labels in the order of label_index, of {title(facts)}".rstrip(),
        *([f"# {plain(classes.note)}"] if classes.note else []),
        *classes.labels,
    ]
    return ("\n".join(lines) + "\n").encode()
