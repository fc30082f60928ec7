"""README.md of a published folder, a dataset card in the Hub's format; and its license, citation and change log."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from kinetics_sounds import __version__, files
from kinetics_sounds.extras import pip_install
from kinetics_sounds.quantities import plural

from .contents import CHANGES, CITATION, CLASSES, CROISSANT, DATASHEET, FINGERPRINTS, LICENSE, SUMS
from .facts import Counts, Facts, shard_facts
from .made_from import card_lines, references
from .markdown import code, escape, plain, table
from .origin import Origin

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The Hub's size categories, with their upper limits."""
MOST_LABELS = 5
"""Maximum number of labels listed in an entry of CHANGES.md."""
HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Names of the splits on the Hub."""

NO_MEDIA = "This folder contains no media: only IDs, times, labels, checksums and measurements."


def card(facts: Facts) -> bytes:
    """Contents of README.md."""
    head = yaml.safe_dump(_head(facts), sort_keys=False, allow_unicode=False, width=1000)
    parts = [
        _what(facts),
        *([card_lines(facts.made_from, hashed=facts.counts.flags["hashed"] > 0)] if facts.made_from.text else []),
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


def full_name(facts: Facts) -> str:
    """Name of the dataset in its title, without the version."""
    return f"{facts.origin.prefix}{plain(facts.published.name)}"


def title(facts: Facts) -> str:
    """Title of the dataset."""
    return f"{full_name(facts)}, version {facts.published.version}"


def with_media(origin: Origin) -> str:
    """The warning about a folder with media: who may share them."""
    return f"The folder `clips/` contains media. {origin.media}: check this before you make the folder public."


def media_text(facts: Facts) -> str:
    """Whether the folder has media, and what that means."""
    return with_media(facts.origin) if facts.media else NO_MEDIA


def _head(facts: Facts) -> dict[str, Any]:
    rows = facts.annotated
    size = next((name for below, name in SIZES if rows < below), "1M<n<10M")
    files = [{"split": HUB_SPLITS[split], "path": f"splits/{split}.parquet"} for split in facts.counts.splits]
    return {
        "pretty_name": full_name(facts),
        "license": facts.license.hub,
        "task_categories": ["video-classification", "audio-classification"],
        "tags": [*facts.origin.tags, "audio-visual", "action-recognition", "croissant"],
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
            f"The clips{facts.origin.of} in the dataset `{facts.published.name}`, by split: {kind}"
            f"{plural(len(classes.labels), 'class', 'classes')}, "
            f"{plural(facts.annotated, 'annotated clip')}, {facts.ok} of them available when it was built. Each row has the "
            f"status of its clip; the rows with `status` `ok` form the dataset. {media_text(facts)}"
        ),
        "",
        f"Classes: {code(classes.name)}.{note}",
        "",
        (
            "Made by ks-build of kinetics-sounds (clips are trimmed to the annotated span by decoding and encoding, or linked if "
            "a file already was the span; audited, measured, and identified by SHA-256) "
            f"and ks-publish {__version__}. Rebuild it with"
        ),
        "",
        "```sh",
        pip_install(comment=True),
        f"ks-build --clips FOLDER{facts.rebuilt_from}",
        "# FOLDER is this one; ks-build reports for each clip whether its bytes are the same, alike or different",
        "```",
        *(["", f"{facts.shared_names}."] if facts.shared_names else []),
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
            f"Of the ok clips, {flags['silent']} silent and {flags['still']} with a still picture (columns `silent`, `still`); "
            f"{flags['hashed']} with perceptual hashes, which identify re-encoded copies."
        ),
        *(["", f"{escape(facts.split_leak)}."] if facts.split_leak else []),
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
            f"*selection* is equal if and only if two datasets have the same keys with the same {labels} in the same splits, "
            f"*content* if the bytes of all clips are equal too. {facts.origin.key} A paper can state both to identify its clips."
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
        f"{_licensed(facts)} under [{facts.license.title}]({facts.license.url}). {facts.origin.removal} See {LICENSE}.",
    ]


def _licensed(facts: Facts) -> str:
    """What is under the license of the folder, as the subject of a sentence."""
    return "What the publisher of this folder made is" if facts.made_from.text else "The lists are"


def license_text(facts: Facts) -> bytes:
    """Contents of LICENSE.md."""
    theirs = ", as far as the publisher of this folder made them" if facts.made_from.text else ""
    lines = [
        "# Terms",
        "",
        f"The lists, tables and documents of this folder{theirs}: {facts.license.title}, {facts.license.url}",
        "",
        f"{media_text(facts)} {facts.origin.rights}",
        "",
        *(
            [f"Made from {escape(facts.made_from.text)}: what is theirs stays under their terms.", ""]
            if facts.made_from.text
            else []
        ),
        facts.origin.removal,
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
    origin = f" Made from {facts.made_from.text}." if facts.made_from.text else ""
    works = [kinetics, sounds] if facts.origin.cites_kinetics else []
    lists = references(facts.made_from)
    also = f", and the {'' if lists else 'two '}works that they come from." if works or lists else "."
    document = {
        "cff-version": "1.2.0",
        "message": f"If you use these splits, cite them with their version and selection{also}",
        "type": "dataset",
        "title": full_name(facts),
        "abstract": f"Splits of {full_name(facts)}; selection {facts.published.selection}.{origin}",
        "authors": [{"name": plain(facts.creator)}],
        "version": facts.published.version,
        "date-released": facts.date,
        "license": facts.license.spdx,
        **url,
        "keywords": [*facts.origin.tags, "audio-visual"],
        **({"references": [*lists, *works]} if lists or works else {}),
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000).encode()


def changes(facts: Facts) -> bytes:
    """Contents of CHANGES.md: an entry per version, newest first."""
    return ("# Changes\n\n" + entry(facts) + (f"\n{facts.history}" if facts.history else "")).encode()


def entry(facts: Facts) -> str:
    """Entry of CHANGES.md for this version."""
    counts = ", ".join(f"{split} {each['clips']}" for split, each in facts.published.splits.items())
    lines = [f"## {facts.published.version} ({facts.date})", "", f"- clips: {counts or 'none'}"]
    lines += [f"- {what}: {escape(told)}" for what, told in changed(facts).items()]
    lines += [f"- selection: {facts.published.selection}", f"- content: {facts.published.content}"]
    return "\n".join(lines) + "\n"


def changed(facts: Facts) -> dict[str, str]:
    """Changes since the previous version, as text without escapes: by kind, the number by split, or the labels."""
    counts = {
        "records added": facts.changes.added,
        "records removed": facts.changes.removed,
        "records with changed label or split": facts.changes.moved,
        "clips with changed bytes": facts.changes.other_content,
        "missing clips with a changed reason": facts.changes.other_status,
    }
    told = {
        what: ", ".join(f"{split} {count}" for split, count in counted.items())
        for what, counted in counts.items()
        if counted
    }
    if remapped := facts.changes.remapped:
        told["labels whose label_index changed or disappeared"] = f"{len(remapped)} ({_some(remapped)})"
    if facts.history and not told:
        told["the same clips"] = "documents or columns changed"
    if facts.old_name:
        told["renamed"] = f"{facts.old_name} is now {facts.published.name}"
    return told


def _some(labels: Sequence[str]) -> str:
    """Up to `MOST_LABELS` labels, with the number of further ones."""
    more = f", and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return ", ".join(labels[:MOST_LABELS]) + more


def classes_text(facts: Facts) -> bytes:
    """Contents of classes.txt, in the format of `ks-build --classes`."""
    classes = facts.classes
    count = plural(len(classes.labels), "label")
    lines = [
        f"# {plain(classes.name)}: {count} in the order of label_index, of {title(facts)}".rstrip(),
        *([f"# {plain(classes.note)}"] if classes.note else []),
        *classes.labels,
    ]
    return ("\n".join(lines) + "\n").encode()
