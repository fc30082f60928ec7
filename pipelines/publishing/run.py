"""ks-publish run: publish a training run in a folder and on the Hub: weights, settings, data, scores and a card.

OUT/README.md            the card, see `run_card`
   /config.yaml          the settings, without what is this machine's
   /run.json             the data, without where it lay
   /checkpoints/step-…/  the weights of one checkpoint, and how far it was
   /results/NAME.json    what ks-eval found of that checkpoint, and of the untrained encoders
   /SHA256SUMS           of all of these: what is ours in the folder, and what is sent
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kinetics_sounds import files, hub
from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE
from kinetics_sounds.errors import PublishError, RunError, SettingsError
from kinetics_sounds.quantities import plural
from kinetics_sounds.settings import parse

from . import contents, run_card, run_facts, swap
from .contents import FINGERPRINTS, SUMS
from .previous import FRESH, check_unchanged, refuse_foreign
from .push import header_of, licence_of, push

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", flags=re.ASCII)
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRunSettings:
    """Publish a training run: its weights, settings, data and scores, without paths or names of this machine.

    Examples:
      ks-publish run runs/avcl_k32 --out published
      ks-publish run runs/avcl_k32 --license cc-by-4.0 --push hf://USER/avcl-k32
      ks-publish run runs/avcl_k32 --checkpoint best --dataset hf://datasets/USER/k32 --push hf://USER/avcl-k32 --yes --public

    exit code: 0 written and, with --push, sent (or declined); 2 usage error, or a damaged run; 3 stopped, run again;
    4 a bug, or a failing disk.
    """

    run: Path
    """Folder of the training run; may be given as the first argument, without --run."""
    checkpoint: str = "last"
    """Checkpoint to publish: last, best, or a name such as step-00000500."""
    out: Path | None = None
    """Output folder. Default: RUN/published."""
    push: Address | None = None
    """Upload the folder to hf://USER/NAME, after a summary and a confirmation."""
    yes: bool = False
    """With --push: upload without confirmation."""
    public: bool = False
    """With --push: create a missing repository public instead of private."""
    license: str | None = None
    """License of the weights, as the Hub names it (cc-by-4.0, mit, apache-2.0). Default: that of the previous version in the
    folder; without one nobody may use them."""
    dataset: Address | None = None
    """Dataset that the run was trained on, hf://datasets/USER/NAME, for the model card. Default: that of the previous version
    in the folder."""
    json: bool = False
    """Print the list of written files as JSON on standard output."""


def publish_run(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-publish run`; `argv` starts after `run`. Returns the exit code."""
    words = list(sys.argv[2:] if argv is None else argv)
    if words and not words[0].startswith("-"):
        words[0] = f"--run={words[0]}"
    settings = parse(PublishRunSettings, words, prog="ks-publish run").settings
    _check(settings)
    out = settings.out or settings.run / "published"
    found = run_facts.collect(settings.run, settings.checkpoint)
    dataset = hub.parse(settings.dataset).repo if settings.dataset else _earlier_dataset(out)
    place = str(hub.parse(settings.push)) if settings.push else "hf://USER/NAME"
    licence = settings.license or _earlier_licence(out)
    card = run_card.card(found, place=place, licence=licence, dataset=dataset)
    names = _write(out, found, card)
    log = sys.stderr if settings.json else sys.stdout
    print(f"{out}: {found.name} of {settings.run}, {_results(found)}, {plural(len(names), 'file')}", file=log)
    for each in found.left_out:
        print(f"left out: {each}", file=sys.stderr)
    if found.unfinished:
        print(f"note: the run is not finished: its last checkpoint is of {found.unfinished}", file=sys.stderr)
    if not licence:
        print("note: no license is given, so nobody may use it; give one with --license", file=sys.stderr)
    if settings.json:
        print(json.dumps({"folder": files.as_text(out), "checkpoint": found.name, "files": names}))
    if settings.push is None:
        return DONE
    return push(out, settings.push, kind="model", yes=settings.yes, public=settings.public)


def _results(found: run_facts.Published) -> str:
    """How many results there are, and whether all are of untrained encoders."""
    untrained = all(each.get("checkpoint") == "untrained" for each in found.results.values())
    return plural(len(found.results), "result") + (" of untrained encoders" if untrained and found.results else "")


def _check(settings: PublishRunSettings) -> None:
    """Raise SettingsError for invalid options, before anything is written; RemoteError for an invalid Hub address."""
    if settings.license is not None and not _LICENCE.fullmatch(settings.license):
        raise SettingsError(
            f"--license {settings.license!r}: is not a license name of the Hub; give one such as cc-by-4.0"
        )
    if settings.push is None and (settings.yes or settings.public):
        raise SettingsError("--yes, --public: require --push; add --push hf://USER/NAME, or leave them out")
    if settings.push is not None and hub.parse(settings.push).kind != "model":
        raise SettingsError(f"--push {settings.push}: is for a dataset, but this is a model; give hf://USER/NAME")
    if settings.dataset is not None and hub.parse(settings.dataset).kind != "dataset":
        raise SettingsError(f"--dataset {settings.dataset}: is not a dataset; give hf://datasets/USER/NAME")
    if settings.out is None:
        return
    if settings.out.resolve() == settings.run.resolve() or (settings.out / "metrics.jsonl").exists():
        raise SettingsError(f"--out {settings.out}: is a training run; give another folder")


def _earlier_licence(out: Path) -> str:
    """License of the previous version in the folder; empty if there is none."""
    told = licence_of(out) if (out / SUMS).is_file() else ""
    return told if _LICENCE.fullmatch(told) else ""


def _earlier_dataset(out: Path) -> str:
    """Dataset, USER/NAME, that the card of the previous version in the folder names; empty if there is none."""
    told = header_of(out).get("datasets") if (out / SUMS).is_file() else None
    return next((each for each in told if _REPO.fullmatch(str(each))), "") if isinstance(told, list) else ""


def _earlier(out: Path) -> dict[str, str]:
    """SHA-256 of each file written by an earlier `ks-publish run`; raises PublishError if the folder only has other files."""
    if not out.exists() or (out.is_dir() and {path.name for path in out.iterdir()} <= FRESH):
        return {}
    if not out.is_dir() or not (out / SUMS).is_file():
        raise PublishError(f"{out}: has files, but is not a published run ({SUMS} is missing); choose another --out")
    sums = contents.read_sums(out)
    if "run.json" not in sums or FINGERPRINTS in sums:
        raise PublishError(f"{out}: contains something other than a published run; choose another --out")
    check_unchanged(out, sums)
    return sums


def _write(out: Path, found: "run_facts.Published", card: str) -> list[str]:
    """Write the folder, replacing the previous one atomically; returns its file names. Foreign files are kept."""
    documents: dict[str, bytes] = {
        f"checkpoints/{found.name}/state.json": _json(found.state),
        "config.yaml": yaml.safe_dump(found.config, sort_keys=False, allow_unicode=True).encode(),
        "run.json": _json(found.facts),
        **{f"results/{name}.json": _json(each) for name, each in found.results.items()},
        "README.md": card.encode(),
    }
    out = out.resolve()
    with swap.staging(out) as new:
        before = _earlier(out)
        weights = new / f"checkpoints/{found.name}/model.safetensors"
        with found.weights.open("rb") as read, files.atomic_writer(weights) as written:
            shutil.copyfileobj(read, written, 1 << 20)
        for name, data in documents.items():
            files.write_bytes(new / name, data)
        sums = {name: files.sha256(new / name) for name in contents.names(new)}
        files.write_bytes(new / SUMS, contents.sums_text(sums))
        own = [*before, SUMS] if before else []
        refuse_foreign(new, out, own)
        swap.exchange(new, out, own=own)
    return sorted([*sums, SUMS])


def _json(document: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except ValueError as error:  # a NaN, or half of a letter
        raise RunError(f"the run has a number or text that cannot be written: {error}") from error
