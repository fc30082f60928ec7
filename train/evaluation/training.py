"""Shared by protocols that train on top of a run: splits, ks-train settings, and checks of the output folder."""

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

HOW = frozenset(resume.FREE) - {"init_from", "val_split", "epochs", "steps"} | {"window"}
"""ks-train settings that may change when a protocol's training is resumed."""
NONE = "none"
"""Value of `val_split` for no selection."""
SAME = ("epochs", "batch", "optim", "devices", "device", "precision", "cache", "cache_gb")
"""Settings that have the same name in ks-train."""


class Splits(Protocol):
    """Settings of a command that trains on one split and evaluates on another."""

    @property
    def fit_split(self) -> str:
        """Split to train on."""
        ...

    @property
    def val_split(self) -> str | None:
        """Split for model selection; None: the default."""
        ...

    @property
    def on_split(self) -> str | None:
        """Split to evaluate on; None: the default."""
        ...


def val_and_on(settings: Splits, splits: Mapping[str, SplitFacts], *, shards: Address) -> tuple[str | None, str]:
    """Split for model selection (checkpoint, layer), or None, and split to evaluate on.

    Raises SettingsError if one is missing, empty, or the training split.
    """
    on = settings.on_split or run_folder.default_eval_split(splits) or "test"
    spare = "val" in splits and "val" not in (on, settings.fit_split) and settings.val_split != NONE
    val = ("val" if spare else None) if settings.val_split in (None, NONE) else settings.val_split
    for option, name in (("on_split", on), ("val_split", val)):
        if name == settings.fit_split:
            raise SettingsError(f"--{option} {name}: is the training split (--fit_split); choose another")
    for option, needed in (("on_split", on), ("fit_split", settings.fit_split)):
        if needed not in splits or not splits[needed].samples:
            raise SettingsError(f"--{option} {needed}: does not exist; {shards} has: {', '.join(splits)}")
    return val, on


def of_run(
    settings: object, before: Parsed[TrainSettings], method: str, groups: Mapping[str, Any], **more: object
) -> Parsed[TrainSettings]:
    """ks-train settings of a protocol: model and view of the run `before`, and defaults for everything else.

    `settings` provides `SAME` and `workers` (None: as ks-train); `more` are further ks-train settings. Raises SettingsError if
    they are invalid.
    """
    same = {name: getattr(settings, name) for name in SAME}
    workers = getattr(settings, "workers", None)
    workers = before.settings.workers if workers is None else workers
    asked = replace(before.settings, **{**same, **more}, method=method, workers=workers, keep=1)
    check(asked)
    return replace(before, settings=asked, groups=groups)


def one_view(before: Parsed[TrainSettings], *, plain: bool = False) -> Any:  # noqa: ANN401 - its own Settings
    """Settings of a run's view with a single view per sample, as classifiers use.

    `plain` also turns off color and sound augmentation, if the view supports it.
    """
    module, view = view_of(before)
    view = single(module, view)
    return module.plain(view) if plain and hasattr(module, "plain") else view


def single(module: ModuleType, view: Any) -> Any:  # noqa: ANN401 - its own Settings
    """Settings of a view with a single view per sample."""
    if getattr(view, "views", 1) == 1:
        return view
    return module.single(view) if hasattr(module, "single") else replace(view, views=1)


def rescaled(view: Any, *, frames: int | None, crop: int | None, video_augment: str | None) -> Any:  # noqa: ANN401
    """Settings of a view with other clips, None for its own; frames are resized in proportion to the crop.

    Raises SettingsError for what the view does not have, or cannot be.
    """
    changes = {
        name: value for name, value in (("frames", frames), ("video_augment", video_augment)) if value is not None
    }
    if crop is not None and hasattr(view, "crop"):
        sides = [name for name in ("resize", "resize_height", "resize_width") if hasattr(view, name)]
        changes |= {"crop": crop, **{name: round(getattr(view, name) * crop / view.crop) for name in sides}}
    try:
        return replace(view, **changes)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"--frames, --crop and --video_augment: the run's view cannot have these: {error}"
        ) from error


def pooled(groups: Mapping[str, Any], backbone: str, pool: str) -> dict[str, Any]:
    """Options of modules with another pooling of a backbone's last maps; "run" for its own.

    Raises SettingsError for a backbone that has a single pooling.
    """
    if pool == "run":
        return dict(groups)
    if not hasattr(groups[backbone], "pool"):
        raise SettingsError(f"--pool {pool}: the backbone {backbone} has one way to pool; leave it out")
    return {**groups, backbone: replace(groups[backbone], pool=pool)}


def view_of(asked: Parsed[TrainSettings]) -> tuple[ModuleType, Any]:
    """View module of a training, and its settings."""
    name = asked.settings.view
    return plugins.load(PLUGINS["view"], name), asked.groups[name]


def check_same(out: Path, asked: Parsed[TrainSettings], *, fingerprint: str, done: str) -> None:
    """Raise RunError if `out` contains another training, whose scores would be reported as this one's.

    `done` describes the training in the message.
    """
    if checkpoint.latest(out / "checkpoints") is None:
        return
    facts = run_folder.read_facts(out)
    if facts["fingerprint"] != fingerprint:
        theirs = f"{facts['shards']}: {facts['fingerprint'][:12]}"
        ours = f"{asked.settings.shards}: {fingerprint[:12]}"
        raise RunError(f"{out}: is {done} on other clips ({theirs}, not {ours}); choose another --out, or remove it")
    before, now = (_score_settings(each) for each in (run_folder.reopen(out), asked))
    for name in sorted({*before, *now}):
        was, is_ = before.get(name), now.get(name)
        if was != is_ and not (name == "init_from" and was and is_ and Path(was).resolve() == Path(is_).resolve()):
            raise RunError(f"{out}: is {done} with {name} {was}, not {is_}; choose another --out, or remove it")


def _score_settings(asked: Parsed[TrainSettings]) -> dict[str, Any]:
    """Settings of a training that affect its scores, by name."""
    return {name: value for name, value in chosen_settings(asked).items() if name not in HOW}
