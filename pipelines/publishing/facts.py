"""Facts for the documents of a published folder, counted while its rows are streamed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kinetics_sounds import fingerprints
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.quantities import plural
from kinetics_sounds.shards.index import Dataset

from .contents import Published
from .made_from import MadeFrom
from .origin import Origin
from .tables import LABELS, Row, text_or_none
from .versions import Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class License:
    """License of the lists; the videos have their own terms."""

    spdx: str
    hub: str
    """Name on the Hub."""
    title: str
    url: str


LICENSES = {
    each.spdx: each
    for each in (
        License(
            spdx="CC-BY-4.0",
            hub="cc-by-4.0",
            title="Creative Commons Attribution 4.0 International",
            url="https://creativecommons.org/licenses/by/4.0/",
        ),
        License(
            spdx="CC-BY-SA-4.0",
            hub="cc-by-sa-4.0",
            title="Creative Commons Attribution-ShareAlike 4.0 International",
            url="https://creativecommons.org/licenses/by-sa/4.0/",
        ),
        License(
            spdx="CC0-1.0",
            hub="cc0-1.0",
            title="CC0 1.0 Universal",
            url="https://creativecommons.org/publicdomain/zero/1.0/",
        ),
        License(
            spdx="ODC-By-1.0",
            hub="odc-by",
            title="Open Data Commons Attribution License 1.0",
            url="https://opendatacommons.org/licenses/by/1-0/",
        ),
    )
}
"""By SPDX identifier."""


def license_of(lists: MadeFrom) -> License | None:
    """License of the published folders that lists are of; None unless all have one that is in `LICENSES`."""
    urls = {each.get("license") for each in (*lists.published, *lists.own)}
    return next((each for each in LICENSES.values() if urls == {each.url}), None)


@dataclass(slots=True)
class Counts:
    """Counts over the rows of a dataset."""

    annotated: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By split and label."""
    ok: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By split and label."""
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By split and status."""
    flags: Counter[str] = field(default_factory=Counter)
    """Ok rows that are silent, still, hashed."""
    bytes: int = 0
    """Total size of the ok clips in bytes."""
    several_labels: bool = False
    """Whether rows have the column of all labels."""
    clips: dict[str, list[tuple[str, str, str, str | None]]] = field(default_factory=dict)
    """By split: key, label, split and SHA-256 of the ok clips."""

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Pass rows through and count them."""
        for row in rows:
            split, label = str(row["split"]), str(row["label"])
            self.annotated[split, label] += 1
            self.statuses[split, str(row["status"])] += 1
            self.several_labels |= LABELS in row
            clips = self.clips.setdefault(split, [])
            if row["status"] == "ok":
                self.ok[split, label] += 1
                self.bytes += int(row["bytes"] or 0)
                clips.append((str(row["key"]), label, split, text_or_none(row["sha256"])))
                self.flags.update(
                    silent=bool(row["silent"]), still=bool(row["still"]), hashed=bool(row["picture_hash"])
                )
            yield row

    @property
    def splits(self) -> list[str]:
        """Splits of the dataset."""
        return [split for split in SPLITS if split in self.clips]

    def published(self, name: str, version: str, classes: str) -> Published:
        """Contents of fingerprints.json."""
        everything = [clip for split in self.splits for clip in self.clips[split]]
        return Published(
            name=name,
            version=version,
            classes=classes,
            **fingerprints.both(everything),
            splits={
                split: {"clips": len(self.clips[split]), **fingerprints.both(self.clips[split])}
                for split in self.splits
            },
            several_labels=self.several_labels,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Input of the documents."""

    published: Published
    classes: ClassList
    """Labels in Unicode form NFC."""
    origin: Origin
    rebuilt_from: str
    """Options of the command that builds the clips again."""
    shared_names: str
    """Same as `origin.shared_names`."""
    split_leak: str
    """Same as `origin.split_leak`."""
    counts: Counts
    creator: str
    url: str
    license: License
    date: str
    """Date of this version: YYYY-MM-DD."""
    media: bool
    """Whether the folder contains the clips' files."""
    shards: Dataset | None
    made_from: MadeFrom
    """Lists that the build was made from."""
    changes: Changes
    """Changes since the previous version; empty for the first."""
    history: str = ""
    """Entries of earlier versions in CHANGES.md."""
    old_name: str = ""
    """Name of the previous version, if it was another."""
    sums: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the files already written, by relative path."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of these files in bytes."""

    @property
    def ok(self) -> int:
        """Number of existing clips."""
        return self.counts.ok.total()

    @property
    def annotated(self) -> int:
        """Number of requested clips."""
        return self.counts.annotated.total()

    @property
    def is_reconstruction(self) -> bool:
        """Whether the class list is a reconstruction of one that was never published."""
        return "reconstruction" in self.classes.note


def shard_facts(dataset: Dataset, published: Published) -> list[str]:
    """Publishable facts about a shard set: numbers and names of transforms, without its address."""
    samples = ", ".join(
        f"{split} {plural(each.samples, 'sample')} in {plural(each.shards, 'shard')}"
        for split, each in dataset.splits.items()
    )
    lines = [samples]
    frames, mel, audio = dataset.frames, dataset.mel, dataset.audio
    told = {
        "frames": [str(frames.get("codec", "")), f"short side {frames.get('short_side', '?')}"],
        "mel-spectrogram": [f"{mel.get('bands', '?')} bands", f"preset {mel.get('preset', '?')}"],
        "sound": [str(audio.get("codec", "")), f"{audio.get('sample_rate', '?')} Hz"],
    }
    lines += [f"{what}: {', '.join(words)}" for what, words in told.items()]
    if not dataset.selection:
        lines.append("selection and content: not known, the set was packed by an older version (run ks-shard again)")
        return lines
    same = "the same" if dataset.selection == published.selection else "not the same"
    lines += [
        f"selection: {dataset.selection} ({same} keys, labels and splits as these lists)",
        f"content: {dataset.content}",
    ]
    return lines
