"""ks-doctor: report what works on this machine, what is missing, and how to fix it."""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from kinetics_sounds.address import Address
from kinetics_sounds.clip import YOUTUBE_ID
from kinetics_sounds.command import DONE, SOME_FAILED, command
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.sources import load

from .checks import (
    Asked,
    Check,
    Finding,
    Verdict,
    apart,
    filesystem,
    machine,
    media_tools,
    packages,
    rank_parity,
    sources,
    torch_report,
)

CHECKS: tuple[Check, ...] = (
    packages.python,
    packages.packages,
    packages.commands,
    media_tools.ffmpeg,
    media_tools.clip,
    media_tools.decoders,
    torch_report.torch,
    sources.yt_dlp,
    sources.javascript,
    filesystem.disk,
    filesystem.file_system,
    machine.shared_memory,
    machine.open_files,
    machine.cores,
    machine.clock,
)
"""Checks in the order of the report; each runs in its own process."""
MOST_SECONDS = 86_400
"""Maximum of `--timeout`, in seconds."""
NAME_WIDTH = 32
"""Width of the name column, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorSettings:
    """Report what works on this machine, what is missing, and how to fix it. Changes nothing.

    Examples:
      ks-doctor
      ks-doctor --out /data/k100
      ks-doctor --distributed
      ks-doctor --live --source youtube --source local:/data/k400 --live_id jNQXAC9IVRw

    exit code: 0 nothing needed is missing (there may be warnings); 1 something is; 2 usage error; 3 stopped; 4 a bug.
    """

    out: Path = Path()
    """Data folder to check the disk of; it need not exist. Default: the working directory."""
    live: bool = False
    """Also fetch one real video from each source, into a temporary folder. A source that fails counts as missing."""
    source: tuple[Address, ...] = field(default=(), metadata={"repeat": True})
    """With --live: sources to test, as for ks-build; repeatable. Default: youtube."""
    live_id: str = sources.LIVE_ID
    """With --live: ID of the video to fetch. Default: YouTube's first video, 19 seconds; of a folder, any of its videos."""
    distributed: bool = False
    """Also start one rank per GPU (two on the CPU) and check that their training step equals that of a single process."""
    timeout: float = 120.0
    """Time limit of one check in seconds; it is then killed and reported."""
    json: bool = False
    """Print the findings as a JSON list on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-doctor`."""
    return command("ks-doctor", lambda: doctor(_settings(sys.argv[1:] if argv is None else argv)))


def _settings(words: Sequence[str]) -> DoctorSettings:
    """The settings of these arguments; without any, the defaults, even if no arguments can be parsed here."""
    try:
        from kinetics_sounds.settings import parse
    except ModuleNotFoundError:  # what is not installed is what the report will say
        if words:
            raise
        return DoctorSettings()
    return parse(DoctorSettings, words, prog="ks-doctor").settings


def doctor(settings: DoctorSettings) -> int:
    """Run every check and print its findings as they come; returns the exit code."""
    _check(settings)
    found = []
    for finding in findings(settings):
        found.append(finding)
        if not settings.json:
            print(lines(finding), flush=True)
    counts = Counter(finding.verdict for finding in found)
    if settings.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        print("found: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict))
    return SOME_FAILED if counts[Verdict.MISSING] else DONE


def findings(settings: DoctorSettings) -> Iterator[Finding]:
    """Findings of all checks, in the order of the report."""
    asked = Asked(out=str(settings.out), timeout_seconds=settings.timeout, live_id=settings.live_id)
    for check in CHECKS:
        yield from apart(check, asked)
    if settings.distributed:
        yield from apart(rank_parity.distributed, asked)
    for spec in _specs(settings):
        yield from apart(sources.live, replace(asked, subject=spec.real))


def lines(finding: Finding) -> str:
    """A finding as text: verdict, name and result on one line, the remedy below."""
    first = f"{finding.verdict:<8} {_plain(finding.name):<{NAME_WIDTH}} {_plain(finding.found)}"
    return f"{first}\n{'':8}   -> {_plain(finding.remedy)}" if finding.remedy else first


def _plain(text: str) -> str:
    """Text on one line without terminal control characters: some of it comes from strangers."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _specs(settings: DoctorSettings) -> tuple[Address, ...]:
    return (settings.source or (Address("youtube"),)) if settings.live else ()


def _check(settings: DoctorSettings) -> None:
    if not 0 < settings.timeout <= MOST_SECONDS:
        raise SettingsError(f"--timeout {settings.timeout:g}: must be more than 0, and at most {MOST_SECONDS}")
    if settings.source and not settings.live:
        raise SettingsError(f"--source {settings.source[0]}: sources are only tested with --live; add it")
    if not YOUTUBE_ID.fullmatch(settings.live_id):
        raise SettingsError(f"--live_id {settings.live_id!r}: is not a video ID (letters, digits, '_' and '-')")
    for spec in _specs(settings):
        with contextlib.suppress(ImportError):  # the check will say what cannot be imported
            notice = load(spec).notice
            if notice:
                print(notice, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
