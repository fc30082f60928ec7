"""Record of the bad samples found by a run; too many of them end the run."""

import json
from pathlib import Path

from kinetics_sounds import files
from kinetics_sounds.errors import RunError
from kinetics_sounds.stream import Split

from ..distributed import collectives, gather


class BadSampleLog:
    """Bad samples of one split, written to a JSON Lines file once each: key, tar, reason."""

    def __init__(self, path: Path | None, split: Split, *, max_bad_fraction: float, writes: bool = True) -> None:
        """Open the log; samples that the file already lists count too.

        `path=None` keeps no file; `writes` is False on all ranks but one. Raises RunError if the file is not such a log.
        """
        self._path, self._split, self._most, self._writes = path, split, max_bad_fraction * len(split), writes
        self.keys = set[str]()
        self._untold: list[tuple[int, str]] = []
        if path is not None and path.exists():
            lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
            if writes:
                files.write_bytes(path, b"".join(lines))  # without a truncated last line
            try:
                self.keys.update(str(json.loads(line)["key"]) for line in lines)
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(f"{path}: is not a list of bad samples ({error}); move it away") from error

    def add(self, number: int, reason: str) -> None:
        """Record sample `number`; raise RunError if the bad samples exceed their maximum fraction."""
        key = self._split.key(number)
        new = key not in self.keys
        self.keys.add(key)
        if new:
            self._untold.append((number, reason))
        if new and self._path and self._writes:
            line = {"key": key, "tar": str(self._split.tars[self._split.shard(number)]), "reason": reason}
            with files.named(self._path), self._path.open("ab") as out:
                out.write((json.dumps(line) + "\n").encode())
        if len(self.keys) > self._most:
            where = f"; see {self._path}" if self._path else ""
            raise RunError(
                f"{len(self.keys)} of the {len(self._split)} samples of {self._split.name!r} are bad, more than "
                f"--max_bad_fraction allows; the last: {reason}{where}; see ks-shard --verify DIR --verify_decode"
            )

    def merge(self) -> None:
        """Merge the bad samples found by all ranks; raises like `add`, on every rank alike."""
        untold, self._untold = self._untold, []
        if collectives.ranks() > 1:
            for number, reason in gather.gather_objects(untold):
                self.add(number, reason)
            self._untold = []
