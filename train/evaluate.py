"""ks-eval: judge a run's frozen encoders by one protocol."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import plugins
from kinetics_sounds.errors import RunError, SettingsError, ShardError
from kinetics_sounds.redact import redact
from kinetics_sounds.settings import DONE, MISUSE, command, parse
from kinetics_sounds.shards import reader

from . import cam, distributed, finetune, results, run, sounds
from .encoders import load_asked
from .features import Kind, extract
from .loader import Loading

PROBES = f"{__package__}.probes"
COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "cam": cam.judge,
    "finetune": finetune.judge,
    "sounds": sounds.judge,
}
"""What is asked of a run besides the probes: each reads the rest of argv and gives back the exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Judge a run's frozen encoders; writes results.json and results.csv.

    Examples:
      ks-eval linear --run runs/avcl_k32
      ks-eval knn --run runs/avcl_k32 --untrained
      ks-eval crossmodal --run runs/avcl_k32 --on_split val
      torchrun --nproc_per_node 8 -m -- kinetics_sounds.train.evaluate knn --run runs/avcl_k32

    Features are the encoders' own, before any gate: a gate that saw both modalities makes pairs look learnt.
    """

    run: Path
    """Folder of a training run."""
    checkpoint: str = "last"
    """Which checkpoint: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Judge the same encoders with their initial weights instead: what a score must beat."""
    shards: str | None = None
    """Folder or URL of the shards; default: the run's own."""
    fit_split: str | None = None
    """Split that a probe learns from, where it learns; default: train."""
    on_split: str | None = None
    """Split to be judged on; default: test, else val, else the run's training split."""
    clips: int = 10
    """Evenly spaced clips a video, whose features are averaged."""
    batch: int = 16
    """Videos a forward pass."""
    workers: int = 1
    """Loading processes; 0 loads within this one."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""
    out: Path | None = None
    """Folder of the results; default: RUN/eval/PROBE."""
    json: bool = False
    """Print the results as JSON on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-eval`."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["-"]
    if name.startswith("-"):
        print(f"usage: ks-eval {{{','.join(names())}}} --run RUN [options]; see ks-eval {names()[0]} --help")
        return DONE if name in ("-h", "--help") else MISUSE
    return command("ks-eval", lambda: judge(name, rest))


def names() -> list[str]:
    """Everything that can be asked of a run."""
    return sorted([*plugins.names(PROBES), *COMMANDS])


def judge(name: str, argv: Sequence[str]) -> int:
    """Do what is called `name`; returns the exit code. Raises SettingsError where there is no such thing."""
    if name not in names():
        raise SettingsError(
            f"nothing is called {name!r}; there are: {', '.join(names())}{plugins.nearest(name, names())}"
        )
    return COMMANDS[name](argv) if name in COMMANDS else evaluate(name, argv)


def evaluate(name: str, argv: Sequence[str]) -> int:
    """Run one probe, by all the ranks that torchrun started; returns the exit code."""
    probe = plugins.load(PROBES, name)
    parsed = parse(Settings, argv, prog=f"ks-eval {name}", groups={name: probe.Settings})
    settings, its = parsed.settings, parsed.groups[name]
    run.at_least(settings, clips=1, batch=1, workers=0)
    facts = run.read_facts(settings.run)
    shards = settings.shards or str(facts["shards"])
    dataset = reader.read_dataset(shards)
    splits = dataset.splits
    on = settings.on_split or run.judged_split(splits) or facts["train_split"]
    fit = (settings.fit_split or "train") if probe.FITS else None
    if settings.fit_split is not None and fit is None:
        raise SettingsError(f"--fit_split {settings.fit_split}: {name} learns nothing; leave it out")
    if fit == on:
        raise SettingsError(
            f"--fit_split {on}: is also the split to be judged on; name another with --on_split or --fit_split"
        )
    if fit is not None and fit not in splits:
        raise ShardError(
            f"{redact(shards)}: has no split {fit!r} to fit on; it has: {', '.join(splits)}; see --fit_split"
        )
    run.check_like(facts, dataset, shards=shards)
    encoders = load_asked(settings)
    trained = run.reopen(settings.run).settings
    wanted = [on] if fit is None else [on, fit]
    kind: Kind = getattr(its, "features", "pooled")
    with distributed.start(run.pick_device(settings.device)) as world:
        told = {"checkpoint": str(encoders.checkpoint), "clips": f"{dataset.fingerprint} {wanted} {settings.clips}"}
        distributed.check_equal(told)
        loading = Loading(workers=settings.workers, device=world.device)
        try:
            features = [
                extract(
                    encoders,
                    run.open_split(trained, shards, split),
                    clips=settings.clips,
                    batch=settings.batch,
                    loading=loading,
                    kind=kind,
                    world=world,
                )
                for split in wanted
            ]
            if not world.leads:
                return DONE
            scores = probe.evaluate(features[0], features[1] if fit is not None else None, its)
        except ValueError as error:  # the probe's settings, or features that are not finite
            raise RunError(f"{settings.run}: {name} cannot judge it: {error}") from error
    found = {
        **results.head(name, settings.run, facts, encoders.checkpoint),
        "on_split": on,
        "fit_split": fit,
        "samples": len(features[0].keys),
        "clips": settings.clips,
        "features": kind,
        "settings": dataclasses.asdict(its),
        "fingerprint": splits[on].fingerprint,
        "fit_fingerprint": None if fit is None else splits[fit].fingerprint,
        "classes": dataset.classes,
        "note": dataset.note,
        "scores": scores,
    }
    out = settings.out or settings.run / "eval" / (f"{name}_untrained" if settings.untrained else name)
    results.write(out, found)
    print(json.dumps(found) if settings.json else results.told(found, out))
    if found["fingerprint"] == facts["fingerprint"] and not settings.json:
        print("note: the encoders were trained on these very clips")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
