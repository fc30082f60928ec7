"""Write croissant.json (Croissant 1.1), and load its records with mlcroissant, which only this module imports.

mlcroissant fetches any address in a document, so it is only given documents of exactly our own structure.
"""

import contextlib
import importlib.util
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from kinetics_sounds import files
from kinetics_sounds.errors import PublishError
from kinetics_sounds.extras import pip_install

from . import contents
from .card import full_name, media_text
from .contents import CLASSES, CROISSANT, FINGERPRINTS
from .facts import Facts, shard_facts
from .markdown import plain
from .tables import LABELS, columns

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
NOT_INSTALLED = f"mlcroissant is not installed: {pip_install('publish')}"
SPLIT_REGEX = r"^(?:.*/)?(train|val|test)(?:\.csv)?$"
"""Pattern for the split in a file's path; also matches its own result, since mlcroissant applies it twice."""
SPLIT_URLS = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}

_TERMS_OF_CROISSANT = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty", "fileObject",
    "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
    "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{term: f"cr:{term}" for term in _TERMS_OF_CROISSANT},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "prov": "http://www.w3.org/ns/prov#",
    "sc": "https://schema.org/",
}
_TYPES: Mapping[pa.DataType, str] = {
    pa.string(): "sc:Text",
    pa.int64(): "sc:Integer",
    pa.float64(): "sc:Float",
    pa.bool_(): "sc:Boolean",
}
MEANINGS = {
    "label": "The label.",
    "youtube_id": "The video.",
    "time_start": "Start of the annotated span in the video, in seconds.",
    "time_end": "End of the annotated span in the video, in seconds.",
    "split": "train, val or test.",
    "key": "youtube_id, start and end: unique.",
    "status": "Outcome of the clip: ok, or why it is missing. The ok rows form the dataset.",
    "label_index": "Index of the label in classes.txt, from 0.",
    "bytes": "Size of the clip's file as built.",
    "sha256": "SHA-256 of the clip's file as built.",
    "duration_seconds": "Duration of the picture, as decoded.",
    "fps": "Frames per second, as decoded.",
    "width": "Pixels.",
    "height": "Pixels.",
    "num_frames": "Number of frames, as decoded.",
    "audio_rate": "Hertz.",
    "audio_channels": "Number of audio channels.",
    "audio_rms_db": "RMS level over the whole clip in dBFS; -200 is digital silence.",
    "audio_offset_seconds": "Start of the sound minus start of the picture in the source.",
    "silent": "audio_rms_db is below -60.",
    "still": "The picture does not change.",
    "rotation": "Degrees clockwise by which the source was rotated upright.",
    "decode_errors": "Number of concealed frames, and of packets that could not be decoded.",
    "audio_channel": "Audio channel stored in a shard: mix, left, right, or a channel's number.",
    "picture_hash": "Perceptual hash of the picture; empty if not computed.",
    "sound_hash": "Perceptual hash of the audio; empty if not computed.",
    LABELS: "All labels of the clip, as a JSON array; the first is label.",
}
"""Description of each column."""
_MEANINGS_OF_0_2 = {**MEANINGS, "label": "The Kinetics label."}
"""The same in folders of version 0.2.0."""


SEVERAL = (
    "Labels are those of the lists that the clips are from, several per clip; the class is the first of the clip's row that is "
    "in the class list."
)
"""Annotation of a set whose clips have several labels."""


def croissant(facts: Facts) -> bytes:
    """Contents of croissant.json."""
    published = facts.published
    several = published.several_labels
    kind = "A reconstruction: the class list was never published. " if facts.is_reconstruction else ""
    origin, terms = facts.origin, {"usageInfo": facts.origin.terms} if facts.origin.terms else {}
    description = (
        f"The clips{origin.of} in the dataset {plain(published.name)}, by split, with their statuses. {kind}{media_text(facts)} "
        f"Selection {published.selection}; content {published.content}."
    )
    theirs = facts.made_from.text and f" Made from {facts.made_from.text}."
    pages = [each["url"] for each in facts.made_from.published if "url" in each]
    packed = f" Shards: {'; '.join(map(plain, shard_facts(facts.shards, published)))}." if facts.shards else ""
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": f"{origin.prefix.lower().replace(' ', '-')}{published.name}",
        "conformsTo": CONFORMS_TO,
        "description": description,
        "license": facts.license.url,
        "url": facts.url,
        "version": published.version,
        "datePublished": facts.date,
        "creator": {"@type": "sc:Organization", "name": plain(facts.creator)},
        "keywords": [*origin.tags, "audio-visual", "action recognition"],
        "citeAs": f"{full_name(facts)} {published.version}, selection {published.selection}",
        **terms,
        **({"creditText": facts.made_from.text} if facts.made_from.text else {}),
        **({"prov:wasDerivedFrom": pages} if pages else {}),
        "isLiveDataset": False,
        "rai:dataCollection": f"{origin.acquired}, by ks-build; every row has the status of its clip.{theirs}",
        "rai:dataCollectionType": ["Web Scraping", "Secondary Data Analysis"],
        "rai:dataPreprocessingProtocol": f"Clips are trimmed to the annotated span by decoding, and audited.{packed}",
        "rai:dataAnnotationProtocol": SEVERAL if several else f"One label per clip. Annotators: {origin.annotators}",
        "rai:dataLimitations": "Missing clips are not missing at random: see the column status.",
        "rai:dataBiases": origin.biases,
        "rai:dataUseCases": "Audio-visual learning and action recognition; not the recognition of people.",
        "rai:personalSensitiveInformation": origin.sensitive,
        "rai:dataReleaseMaintenancePlan": origin.removal,
        "distribution": _distribution(facts),
        "recordSet": _record_sets(facts.counts.splits, several_labels=several),
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _distribution(facts: Facts) -> list[dict[str, Any]]:
    splits = facts.counts.splits
    types = dict.fromkeys((f"splits/{split}.csv" for split in splits), "text/csv")
    types |= {f"splits/{split}.parquet": "application/x-parquet" for split in splits}
    types |= {CLASSES: "text/plain", FINGERPRINTS: "application/json"}
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": Path(name).name,
            "name": Path(name).name,
            "contentUrl": name,
            "encodingFormat": kind,
            "contentSize": f"{facts.sizes[name]} B",
            "sha256": facts.sums[name],
        }
        for name, kind in types.items()
    ]
    return [*objects, _FILE_SET]


_FILE_SET = {
    "@type": "cr:FileSet",
    "@id": "split-files",
    "name": "split-files",
    "encodingFormat": "text/csv",
    "includes": "splits/*.csv",
}
"""Without `containedIn`: with it mlcroissant validates the document but cannot load it."""


def _record_sets(
    splits: list[str], *, several_labels: bool, meanings: Mapping[str, str] = MEANINGS
) -> list[dict[str, Any]]:
    names = {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [{"splits/name": split, "splits/url": SPLIT_URLS[split]} for split in splits],
    }
    clips = {
        "@type": "cr:RecordSet",
        "@id": "clips",
        "name": "clips",
        "description": "One record per annotated clip.",
        "key": {"@id": "clips/key"},
        "field": [_field(name, kind, meanings[name]) for name, kind in columns(several_labels=several_labels).items()],
    }
    return [names, clips]


def _field(name: str, kind: pa.DataType, meaning: str) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": "split-files"}, "extract": {"column": name}}
    field = {
        "@type": "cr:Field",
        "@id": f"clips/{name}",
        "name": name,
        "description": meaning,
        "dataType": ["sc:Text", "cr:Label"] if name == "label" else _TYPES[kind],
        "source": source,
    }
    if name == "split":  # by the file's name, for mlcroissant filters by nothing else
        source["extract"] = {"fileProperty": "fullpath"}
        source["transform"] = {"regex": SPLIT_REGEX}
        field["references"] = {"field": {"@id": "splits/name"}}
    return field


def check_shape(folder: Path) -> None:
    """Raise PublishError unless a folder's croissant.json has our own context, files and records; its texts may differ."""
    path = folder / CROISSANT
    try:
        document = files.read_json(path, most_bytes=contents.MOST_BYTES)
    except (OSError, ValueError) as error:
        raise PublishError(f"{path}: cannot be read as JSON: {error}") from error
    splits = contents.splits_of(folder)
    if not isinstance(document, dict) or document.get("@context") != CONTEXT or document.get("@type") != "sc:Dataset":
        raise PublishError(f"{path}: is not ks-publish's Croissant: its context or type differs")
    if document.get("conformsTo") != CONFORMS_TO:
        raise PublishError(f"{path}: conforms to {document.get('conformsTo')!r}, not {CONFORMS_TO}")
    several = contents.read_fingerprints(folder).several_labels
    known_sets = [_record_sets(splits, several_labels=several, meanings=each) for each in (MEANINGS, _MEANINGS_OF_0_2)]
    if document.get("recordSet") not in known_sets:
        raise PublishError(f"{path}: its record sets do not match the splits {', '.join(splits)}")
    _check_distribution(path, document.get("distribution"), splits)
    known = {"@context", "@type", "recordSet", "distribution", "creator"}
    texts = {name: value for name, value in document.items() if name not in known}
    if not all(re.fullmatch(r"[A-Za-z]+(:[A-Za-z]+)?", name) and _is_plain(value) for name, value in texts.items()):
        raise PublishError(f"{path}: has unexpected fields")
    creator = document.get("creator")
    if not isinstance(creator, dict) or {name: type(value) for name, value in creator.items()} != {
        "@type": str,
        "name": str,
    }:
        raise PublishError(f"{path}: its creator is invalid")


def _is_plain(value: object) -> bool:
    return isinstance(value, str | bool) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _check_distribution(path: Path, distribution: object, splits: list[str]) -> None:
    allowed = {f"splits/{split}.{kind}" for split in splits for kind in ("csv", "parquet")} | {CLASSES, FINGERPRINTS}
    keys = {"@type", "@id", "name", "contentUrl", "encodingFormat", "contentSize", "sha256"}
    objects = [each for each in distribution if each != _FILE_SET] if isinstance(distribution, list) else []
    if not isinstance(distribution, list) or distribution.count(_FILE_SET) != 1:
        raise PublishError(f"{path}: has other files than the splits' CSVs")
    for each in objects:
        if not isinstance(each, dict) or set(each) != keys or each["@type"] != "cr:FileObject":
            raise PublishError(f"{path}: describes a file differently from ks-publish")
        if not all(isinstance(value, str) for value in each.values()) or each["contentUrl"] not in allowed:
            raise PublishError(f"{path}: names the file {str(each['contentUrl'])[:100]!r}, which is not in the folder")
    if {each["contentUrl"] for each in objects} != allowed or len(objects) != len(allowed):
        raise PublishError(f"{path}: does not list each file of the splits once")


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder's croissant.json, whose structure must have been checked."""
    document: Any = files.read_json(folder / CROISSANT, most_bytes=contents.MOST_BYTES)
    return {each["contentUrl"]: each["sha256"] for each in document["distribution"] if "sha256" in each}


def can_be_loaded() -> bool:
    """Whether mlcroissant is installed, without importing it."""
    return importlib.util.find_spec("mlcroissant") is not None


def records(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Records of the clips as loaded by mlcroissant, texts as bytes; a folder of another structure is refused.

    Raises PublishError if they cannot be loaded, or mlcroissant is not installed.
    """
    check_shape(folder)
    try:
        import mlcroissant  # takes seconds, and needs an extra
    except ImportError as error:
        raise PublishError(NOT_INSTALLED) from error
    with _quiet():
        try:
            loaded = mlcroissant.Dataset(jsonld=str(folder / CROISSANT))
            yield from loaded.records("clips")
        except (mlcroissant.ValidationError, mlcroissant.GenerationError, ValueError, KeyError) as error:
            raise PublishError(f"{folder / CROISSANT}: cannot be loaded by mlcroissant: {error}") from error


def count(folder: Path) -> dict[str, int]:
    """Number of records per split loaded by mlcroissant; raises as `records`."""
    return dict(Counter(record["clips/split"].decode() for record in records(folder)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress mlcroissant's log messages, which may have a line per record."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
