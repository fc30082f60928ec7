"""Protocols of papers by name: each is a YAML file with an evaluation, its options, its folds and the papers' scores.

The header of a file says what the evaluation is, its command, the data that it needs, and what differs from the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kinetics_sounds import plugins
from kinetics_sounds.errors import SettingsError

from ..config.recipes import flat, format_recipes, head_of

FOLDER = Path(__file__).parents[1] / "protocols"
UNTRIED = "None of these has been run at full size here; all scores are the papers', as published."


@dataclass(frozen=True)
class DataSet:
    """A data set that papers evaluate on."""

    title: str
    classes: int
    """Number of its classes."""
    names: tuple[str, ...]
    """Names of its class list in `dataset.json`, or of the folder of sounds."""


DATA_SETS: Mapping[str, DataSet] = {
    "ucf101": DataSet("UCF101", 101, ("ucf101",)),
    "hmdb51": DataSet("HMDB51", 51, ("hmdb51",)),
    "k400": DataSet("Kinetics-400", 400, ("k400", "kinetics")),
    "k32": DataSet("Kinetics-Sounds", 32, ("k32", "kinetics")),
    "esc50": DataSet("ESC-50", 50, ("esc50",)),
    "dcase2014": DataSet("DCASE 2014", 10, ("dcase2014",)),
}
"""By the name that a protocol's file has as `data`; "kinetics" is that of `ks-shard --dataset kinetics`."""


@dataclass(frozen=True, kw_only=True)
class PaperScore:
    """A row of a paper's table."""

    table: str
    """Paper and number of the table, such as "AVID 3"."""
    method: str
    pretrained: str = ""
    """Data set that the encoders were pretrained on; empty if our copy does not say."""
    scores: Mapping[str, float]
    """In percent, by the name of our metric."""

    def __str__(self) -> str:
        found = ", ".join(f"{metric} {score:g}" for metric, score in self.scores.items())
        return f"{self.table}, {self.method}{self.pretrained and f' from {self.pretrained}'}: {found}"


@dataclass(frozen=True, kw_only=True)
class PaperProtocol:
    """How a paper evaluates encoders on one data set."""

    name: str
    head: tuple[str, ...]
    """Header lines of its file."""
    uses: str
    """The probe or protocol of ks-eval that it configures."""
    data: DataSet
    """What the papers' scores are of."""
    with_sound: bool
    """Whether only videos with sound count."""
    folds: tuple[int, ...]
    """Folds whose scores are averaged, as they are numbered in the shard set; empty: the default splits."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of `uses` that differ from its defaults, nested as in a config."""
    papers: tuple[PaperScore, ...] = ()

    @property
    def words(self) -> list[str]:
        """The options as words of a command line."""
        return [f"--{name}={_word(value)}" for name, value in flat(self.options).items()]

    @property
    def command(self) -> str:
        """Its command line, as its header says."""
        return " ".join(self.head).partition(" command: ")[2].partition(" data: ")[0].strip()

    @property
    def needs(self) -> str:
        """The data that it needs, and how they are made, as its header says."""
        return " ".join(self.head).partition(" data: ")[2].partition(" time: ")[0].strip()

    def note_on(self, name: str, classes: int, *, sound: bool) -> str:
        """A line for users if a set with this class list is not the protocol's, or lacks the sound it needs; else empty."""
        data = self.data
        if name not in data.names or classes != data.classes:
            what = f"this is {name} ({classes} classes), the protocol is for {data.title} ({data.classes} classes)"
        elif self.with_sound and not sound:
            what = f"this is {name} without sound, the protocol is for videos with sound"
        else:
            return ""
        return f"{what}: the paper's scores are not comparable"


@cache
def protocols() -> Mapping[str, PaperProtocol]:
    """All shipped protocols, by name."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.yaml"))}


def find(name: str) -> PaperProtocol:
    """The protocol of this name; raises SettingsError that suggests similar names."""
    if name not in protocols():
        near = plugins.nearest(name, protocols())
        raise SettingsError(f"--protocol {name}: there is no such protocol{near}; list them with: ks-eval --list")
    return protocols()[name]


def list_every() -> str:
    """Format all protocols with their headers and the papers' scores, as `ks-eval --list` prints them."""
    return "\n\n".join([*(list_one(each) for each in protocols().values()), UNTRIED])


def list_one(protocol: PaperProtocol) -> str:
    """Format a protocol with its header and the papers' scores."""
    return format_recipes({protocol.name: (*protocol.head, *(f"paper:    {row}" for row in protocol.papers))})


def head_of_help(protocol: PaperProtocol) -> str:
    """What stands above the help of a protocol's evaluation: its header, and the options that it changes."""
    changed = ["Options of this protocol, which take the place of the defaults below:", *protocol.words]
    lines = changed if protocol.words else ["This protocol changes none of the defaults below."]
    return "\n".join([format_recipes({protocol.name: protocol.head}), "", "\n  ".join(lines), ""])


def _read(path: Path) -> PaperProtocol:
    document = yaml.safe_load(path.read_text("utf-8"))
    rows = []
    for row in document.get("papers", ()):
        told = {name: row.pop(name) for name in ("table", "method", "pretrained") if name in row}
        rows.append(PaperScore(**told, scores=row))
    return PaperProtocol(
        name=path.stem,
        head=head_of(path),
        uses=document["uses"],
        data=DATA_SETS[document["data"]],
        with_sound=document.get("with_sound", False),
        folds=tuple(document.get("folds", ())),
        options=document.get("set", {}),
        papers=tuple(rows),
    )


def _word(value: Any) -> str:  # noqa: ANN401 - a value of YAML
    return (
        value
        if isinstance(value, str)
        else yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    )
