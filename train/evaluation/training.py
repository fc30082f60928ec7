"""What protocols share that train on top of a run: which splits, what ks-train is to do, and whether a folder holds the same."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from kinetics_sounds import plugins
from kinetics_sounds.address import Address
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards.index import SplitFacts

from ..config import run_folder
from ..config.settings import PLUGINS, TrainSettings, check, chosen_settings
from ..engine import checkpoint, resume

HOW = frozenset(resume.FREE) - {"init", "val_split", "epochs", "steps"} | {"window"}
"""Settings of ks-train that one training may have different each time it goes on."""
SAME = ("epochs", "batch", "optim", "devices", "device", "precision", "cache", "cache_gb")
"""Settings that ks-train has under the same name."""


class Splits(Protocol):
    """Settings of a command that learns from a split and judges on another."""

    @property
    def fit_split(self) -> str:
        """The split to learn from."""
        ...

    @property
    def val_split(self) -> str | None:
        """The split that chooses, where the user names one."""
        ...

    @property
    def on_split(self) -> str | None:
        """The split to be judged on, where the user names one."""
        ...


def val_and_on(settings: Splits, splits: Mapping[str, SplitFacts], *, shards: Address) -> tuple[str | None, str]:
    """The split that chooses (a checkpoint, a layer), where one does, and the one to be judged on.

    Raises SettingsError where one is missing, empty, or the one that is learnt from.
    """
    on = settings.on_split or run_folder.judged_split(splits) or "test"
    spare = "val" in splits and "val" not in (on, settings.fit_split)
    val = settings.val_split or ("val" if spare else None)
    for option, name in (("on_split", on), ("val_split", val)):
        if name == settings.fit_split:
            raise SettingsError(f"--{option} {name}: is the split to learn from (--fit_split); name another")
    for option, needed in (("on_split", on), ("fit_split", settings.fit_split)):
        if needed not in splits or not splits[needed].samples:
            raise SettingsError(f"--{option} {needed}: is not there; {shards} has: {', '.join(splits)}")
    return val, on


def of_run(
    settings: object, before: Parsed[TrainSettings], method: str, groups: Mapping[str, Any], **more: object
) -> Parsed[TrainSettings]:
    """What ks-train is to do by a method: the model and view of the run `before`, and else its defaults, not the run's settings.

    `settings` has `SAME` and `workers` (None: as ks-train); `more` are others of ks-train. Raises SettingsError where that
    cannot be.
    """
    same = {name: getattr(settings, name) for name in SAME}
    workers = getattr(settings, "workers", None)
    workers = before.settings.workers if workers is None else workers
    asked = replace(before.settings, **{**same, **more}, method=method, workers=workers, keep=1)
    check(asked)
    return replace(before, settings=asked, groups=groups)


def one_view(before: Parsed[TrainSettings], *, plain: bool = False) -> Any:  # noqa: ANN401 - its own Settings
    """The settings of a run's view with one view of a sample, for a classifier sees one.

    A `plain` one changes colours and sound no more, where the view knows how.
    """
    module, view = view_of(before)
    if getattr(view, "views", 1) != 1:
        view = replace(view, views=1)
    return module.plain(view) if plain and hasattr(module, "plain") else view


def view_of(asked: Parsed[TrainSettings]) -> tuple[ModuleType, Any]:
    """The module of the view that training has, and its settings."""
    name = asked.settings.view
    return plugins.load(PLUGINS["view"], name), asked.groups[name]


def check_same(out: Path, asked: Parsed[TrainSettings], *, fingerprint: str, done: str) -> None:
    """Raise RunError where `out` holds another training: its scores would be told as this one's.

    `done` is the word for what it holds.
    """
    if checkpoint.latest(out / "checkpoints") is None:
        return
    facts = run_folder.read_facts(out)
    if facts["fingerprint"] != fingerprint:
        theirs = f"{facts['shards']}: {facts['fingerprint'][:12]}"
        ours = f"{asked.settings.shards}: {fingerprint[:12]}"
        raise RunError(f"{out}: is {done} on other clips ({theirs}, not {ours}); choose another --out, or remove it")
    before, now = (_decisive(each) for each in (run_folder.reopen(out), asked))
    for name in sorted({*before, *now}):
        was, is_ = before.get(name), now.get(name)
        if was != is_ and not (name == "init" and was and is_ and Path(was).resolve() == Path(is_).resolve()):
            raise RunError(f"{out}: is {done} with {name} {was}, not {is_}; choose another --out, or remove it")


def _decisive(asked: Parsed[TrainSettings]) -> dict[str, Any]:
    """What of a training's settings decides its scores, by name."""
    return {name: value for name, value in chosen_settings(asked).items() if name not in HOW}
