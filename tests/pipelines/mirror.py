"""A mirror over HTTP that does what it is told, the tars on it, and a build that is told to read them."""

import http.server
import io
import itertools
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds import manifest
from kinetics_sounds.clip import Outcome
from kinetics_sounds.pipelines import build


@dataclass
class Fault:
    """What one GET meets instead of the whole file."""

    code: int = 200
    cut: int | None = None
    """Bytes after which the connection ends."""
    hold: int | None = None
    """Bytes after which nothing comes any more."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: "Mirror"

    def log_message(self, *_args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path in self.server.files else 404)
        self.end_headers()

    def do_GET(self) -> None:
        mirror = self.server
        mirror.gets.append(self.path.removeprefix(mirror.root))
        data = mirror.files.get(self.path)
        fault = next(mirror.faults.get(self.path, iter(())), Fault())
        if data is None or fault.code != 200:
            self.send_error(404 if data is None else fault.code)
            return
        mirror.asked(self.path.removeprefix(mirror.root))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: fault.cut if fault.hold is None else fault.hold])
        if fault.hold is not None:
            mirror.holding.set()
            mirror.over.wait(60)


class Mirror(http.server.ThreadingHTTPServer):
    """The mirror's layout on a free port of this machine."""

    daemon_threads = True
    block_on_close = False
    root = "/kinetics/400/"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spec = f"cvdf:http://127.0.0.1:{self.server_port}/kinetics/400"
        self.over, self.holding = threading.Event(), threading.Event()
        self.clear()

    def clear(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Iterator[Fault]] = {}
        self.gets: list[str] = []
        self.asked: Callable[[str], None] = lambda _place: None

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that hung up
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def put(self, place: str, data: bytes, *faults: Fault, always: Fault | None = None) -> None:
        self.files[self.root + place] = data
        self.faults[self.root + place] = itertools.chain(faults, itertools.repeat(always) if always else ())

    def parts(self, split: str, **parts: bytes) -> None:
        """A split's list, and its parts."""
        self.put(f"{split}/k400_{split}_path.txt", "".join(f"{name}.tar.gz\n" for name in parts).encode())
        for name, data in parts.items():
            self.put(f"{split}/{name}.tar.gz", data)

    def parts_read(self) -> dict[str, int]:
        """How often each part was asked for since the last call."""
        counts = Counter(place for place in self.gets if not place.endswith(".txt"))
        self.gets.clear()
        return dict(counts)


def tar(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def key(name: str) -> str:
    return f"{name}_000003_000005"


def clips(sound: bytes, *names: str) -> list[tuple[str, bytes]]:
    return [(f"./{key(name)}.mp4", sound) for name in names]


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@dataclass
class Place:
    """A build's folder, its lists, and what `ks-build` is told every time."""

    root: Path
    spec: str
    labels: list[str] = field(default_factory=lambda: ["humming"])
    rows: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.root / "out"

    def annotate(self, *names: str, label: str = "humming", split: str = "train") -> "Place":
        self.rows += [f"{label},{name},3,5,{split}" for name in names]
        return self

    def arguments(self, *more: str, sources: tuple[str, ...] = ()) -> list[str]:
        (self.root / "classes.txt").write_text("\n".join(self.labels))
        (self.root / "list.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *self.rows]))
        words = ["--classes", f"{self.root}/classes.txt", "--annotations", f"{self.root}/list.csv"]
        words += [word for spec in sources or (self.spec,) for word in ("--source", spec)]
        return [*words, "--out", str(self.out), "--workers", "1", "--retry_wait", "0", *more]

    def build(self, *more: str, sources: tuple[str, ...] = ()) -> int:
        return int(build.main(self.arguments(*more, sources=sources)))

    def outcomes(self) -> dict[str, Outcome]:
        return {outcome.clip.youtube_id: outcome for outcome in manifest.read(self.out / "manifest.parquet").outcomes}

    def statuses(self) -> dict[str, str]:
        return {name: str(outcome.status) for name, outcome in self.outcomes().items()}

    def files(self) -> set[str]:
        """Every file of the build but its own tables."""
        found = {str(path.relative_to(self.out)) for path in self.out.rglob("*") if not path.is_dir()}
        return found - {".lock", "ledger.sqlite", "manifest.csv", "manifest.parquet", "report.json"}
