"""ks-eval: judge a run's frozen encoders by one protocol."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kinetics_sounds import __version__, files, plugins, progress, stream
from kinetics_sounds.errors import RunError, SettingsError, ShardError
from kinetics_sounds.settings import DONE, MISUSE, command, parse
from kinetics_sounds.shards import reader

from . import checkpoint, finetune, loader, run
from .probes import Features

PROBES = f"{__package__}.probes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Judge a run's frozen encoders; writes results.json and results.csv.

    Examples:
      ks-eval linear --run runs/avcl_k32
      ks-eval knn --run runs/avcl_k32 --untrained
      ks-eval crossmodal --run runs/avcl_k32 --on_split val

    Features are the encoders' own, before any gate: a gate that saw both modalities makes pairs look learnt.
    """

    run: Path
    """Folder of a training run."""
    checkpoint: str = "last"
    """Which checkpoint: last, or a name such as step-00000500."""
    untrained: bool = False
    """Judge the same encoders with their initial weights instead: what a score must beat."""
    shards: str | None = None
    """Folder or URL of the shards; default: the run's own."""
    fit_split: str = "train"
    """Split that a probe learns from."""
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
    probes = plugins.names(PROBES)
    if name.startswith("-"):
        print(
            f"usage: ks-eval {{{','.join(['finetune', *probes])}}} --run RUN [options]; see ks-eval {probes[0]} --help"
        )
        return DONE if name in ("-h", "--help") else MISUSE
    if name == "finetune":
        return command("ks-eval", lambda: _finetune(rest))
    return command("ks-eval", lambda: evaluate(name, rest))


def _finetune(argv: Sequence[str]) -> int:
    judged = finetune.finetune(argv)
    _write(judged.out, judged.results)
    print(json.dumps(judged.results) if judged.as_json else _told(judged.results, judged.out))
    return DONE


def evaluate(name: str, argv: Sequence[str]) -> int:
    """Run one probe; returns the exit code."""
    probe = plugins.load(PROBES, name)
    parsed = parse(Settings, argv, prog=f"ks-eval {name}", groups={name: probe.Settings})
    settings = parsed.settings
    run.at_least(settings, clips=1, batch=1, workers=0)
    facts = run.read_facts(settings.run)
    shards = settings.shards or str(facts["shards"])
    dataset = reader.read_dataset(shards)
    splits = dataset.splits
    on = settings.on_split or next((s for s in ("test", "val") if s in splits), facts["train_split"])
    if probe.FITS and settings.fit_split == on:
        raise SettingsError(
            f"--fit_split {on}: is also the split to be judged on; name another with --on_split or --fit_split"
        )
    if probe.FITS and settings.fit_split not in splits:
        raise ShardError(
            f"{shards}: has no split {settings.fit_split!r} to fit on; it has: {', '.join(splits)}; see --fit_split"
        )
    trained = run.reopen(settings.run)
    built = run.rebuild(settings.run)
    path = None
    if not settings.untrained:
        path = checkpoint.find(settings.run / "checkpoints", settings.checkpoint)
        checkpoint.load_model(path, built.model)
    wanted = [on, settings.fit_split] if probe.FITS else [on]
    try:
        features = [extract(built, run.open_split(trained.settings, shards, split), settings) for split in wanted]
        scores = probe.evaluate(features[0], features[1] if probe.FITS else None, parsed.groups[name])
    except ValueError as error:  # the probe's settings, or features that are not finite
        raise RunError(f"{settings.run}: {name} cannot judge it: {error}") from error
    results = {
        "probe": name,
        "run": str(settings.run),
        "recipe": facts["recipe"],
        "checkpoint": path.name if path else "untrained",
        "on_split": on,
        "fit_split": settings.fit_split if probe.FITS else None,
        "samples": len(features[0].keys),
        "clips": settings.clips,
        "fingerprint": splits[on].fingerprint,
        "fit_fingerprint": splits[settings.fit_split].fingerprint if probe.FITS else None,
        "trained_on": {"split": facts["train_split"], "fingerprint": facts["fingerprint"]},
        "classes": dataset.classes,
        "note": dataset.note,
        "scores": scores,
        "versions": {"kinetics-sounds": __version__, "torch": torch.__version__},
    }
    out = settings.out or settings.run / "eval" / (f"{name}_untrained" if settings.untrained else name)
    _write(out, results)
    print(json.dumps(results) if settings.json else _told(results, out))
    return DONE


@torch.inference_mode()
def extract(built: run.Built, split: stream.Split, settings: Settings) -> Features:
    """Pooled features of every sample once, in evaluation mode: video averaged over the clips, audio of the whole track."""
    built.view.check(split.dataset, built.view_settings)
    device = run.pick_device(settings.device)
    built.model.to(device).eval()
    samples = loader.Samples(split=split, view=built.view.__name__, settings=built.view_settings, clips=settings.clips)
    loading = loader.Loading(workers=settings.workers, device=device)
    video: list[torch.Tensor] = []
    audio: list[torch.Tensor] = []
    number: list[torch.Tensor] = []
    with (
        loader.test_batches(samples, batch=settings.batch, loading=loading) as batches,
        progress.bar(f"ks-eval features of {split.name}", -(-len(split) // settings.batch)) as bar,
    ):
        for batch in batches:
            clips = batch["video"].flatten(0, 1)
            sides = built.view.to_model({"video": clips, "audio": batch["audio"]}, built.view_settings)
            video.append(built.method.video(sides["video"]).unflatten(0, (-1, settings.clips)).mean(1).float().cpu())
            audio.append(built.method.audio(sides["audio"]).float().cpu())
            number.append(batch["number"].cpu())
            bar.advance()
    order = torch.cat(number)
    return Features(
        video_ND=torch.cat(video),
        audio_ND=torch.cat(audio),
        label_N=torch.from_numpy(split.label_index_N)[order],
        keys=tuple(split.key(each) for each in order.tolist()),
    )


def _write(out: Path, results: dict[str, Any]) -> None:
    files.write_bytes(out / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["probe", "checkpoint", "on_split", "fingerprint", "metric", "value"])
    for metric, value in results["scores"].items():
        rows.writerow(
            [results["probe"], results["checkpoint"], results["on_split"], results["fingerprint"], metric, value]
        )
    files.write_bytes(out / "results.csv", table.getvalue().encode())


def _told(results: dict[str, Any], out: Path) -> str:
    lines = [f"{results['probe']} of {results['checkpoint']} on {results['samples']} clips of {results['on_split']}:"]
    lines += [f"  {metric:28} {value:7.2f}" for metric, value in results["scores"].items()]
    if results["fingerprint"] == results["trained_on"]["fingerprint"]:
        lines.append("  note: the encoders were trained on these very clips")
    return "\n".join([*lines, f"results: {out / 'results.json'}"])


if __name__ == "__main__":
    sys.exit(main())
