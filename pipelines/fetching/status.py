"""`ks-build --status`: how far a build is, read from its ledger beside the process that writes it."""

import itertools
import json
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

from kinetics_sounds import files, manifest
from kinetics_sounds.clip import Status
from kinetics_sounds.command import DONE
from kinetics_sounds.errors import ManifestError, SettingsError
from kinetics_sounds.ledger import Entry, Ledger, RunEntry
from kinetics_sounds.progress import duration
from kinetics_sounds.settings import only_one

from .. import manifest_option

REPLIES = 200
"""Number of last replies that the rate is computed over."""


def show(out: Path | None, *, as_json: bool) -> int:
    """Print how far the build in `out` is, or the only one under data/; returns the exit code."""
    found = status(out or only_one("data/*/ledger.sqlite", option="--out", make="ks-build").parent)
    print(json.dumps(found) if as_json else format_status(found))
    return DONE


def status(out: Path) -> dict[str, Any]:
    """Counts, rate and remaining seconds of the build in `out`; takes no lock and writes nothing.

    `state` is "stopped" if its process ended before all clips were tried, "ended" if after that.

    `rate` is replies per second over the last `REPLIES` of this run, and `seconds_left` what the clips without a reply then
    take; both are None if the build is not known to run. The counts are of the clips of the manifest that this run wrote; before
    it did, of all that any run requested. Raises SettingsError if there is no build.
    """
    if not (out / "ledger.sqlite").is_file():
        raise SettingsError(f"{out}: has no build; give the --out of a ks-build")
    with Ledger(out / "ledger.sqlite", only_read=True) as ledger:
        run = ledger.last_run()
        times = [] if run is None else ledger.last_times(REPLIES, since=run.time)
        requested = None if run is None else _requested(out, run)
        by_key = itertools.groupby(ledger.latest(), lambda each: each.key)
        counts = Counter(_status(list(entries)) for key, entries in by_key if requested is None or key in requested)
    state = "unknown" if run is None else _state(run)
    now, answered = time.time(), counts.total()
    rate = len(times) / max(now - times[-1], 1e-9) if times and state != "ended" else None
    clips = max(answered, run.clips if run else 0)
    if state == "ended" and (requested is None or answered < clips or counts[Status.NOT_TRIED]):
        state = "stopped"
    return {
        "out": str(out),
        "state": state,
        "started_seconds_ago": None if run is None else now - run.time,
        "clips": clips,
        "answered": answered,
        "not_requested": max(0, answered - run.clips) if run else 0,
        "statuses": dict(counts.most_common()),
        "rate": rate,
        "seconds_left": (clips - answered) / rate if rate else None,
    }


def format_status(found: dict[str, Any]) -> str:
    """The status as text."""
    ago = "" if found["started_seconds_ago"] is None else f", started {duration(found['started_seconds_ago'])} ago"
    told = ", ".join(f"{name} {count}" for name, count in found["statuses"].items()) or "none yet"
    if found["not_requested"]:
        told += f"; at least {found['not_requested']} of them of earlier runs' rows, which this run does not request"
    remedy = "; run the same command to resume" if found["state"] == "stopped" else ""
    lines = [
        f"{found['out']}: {found['state']}{ago}{remedy}",
        f"clips: {found['answered']} of {found['clips']} done ({told})",
    ]
    if found["rate"] is not None:
        lines.append(f"rate: {3600 * found['rate']:.0f} clips an hour, about {duration(found['seconds_left'])} left")
    return "\n".join(lines)


def _state(run: RunEntry) -> str:
    """Whether the process of a run is alive, as far as this host can tell."""
    if run.host != socket.gethostname():
        return f"started on {run.host}, process {run.process}"
    return f"running, process {run.process}" if files.is_alive(run.process) else "ended"


def _requested(out: Path, run: RunEntry) -> frozenset[str] | None:
    """Keys of the clips that a run requested; None before it has written its manifest."""
    path = out / manifest_option.NAME
    try:
        return frozenset(manifest.read_keys(path)) if path.stat().st_mtime >= run.time else None
    except (FileNotFoundError, ManifestError):  # the next run writes it again
        return None


def _status(entries: list[Entry]) -> str:
    """Status of a clip from the last entries of its sources: ok if one provided it, else the latest."""
    built = [each for each in entries if each.media is not None]
    return str(max(built or entries, key=lambda each: each.number).status)
