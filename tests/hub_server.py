"""A Hugging Face Hub of the tests' own: what `huggingface_hub` 2.4 asks of one, over HTTP, with faults and counts."""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import file_systems

from .canaries import WORD

WRITER = f"hf_{WORD}writer000000000000000000000000"
"""Token of the user `ann`, who may write to what is theirs."""
READER = f"hf_{WORD}reader000000000000000000000000"
"""Another of theirs, which may only read."""
LFS_FROM = 10_000
"""Bytes of a file from which on it goes by LFS (the real Hub: 10 MB, and tars of any size)."""


@dataclass
class Blob:
    """A file at a commit."""

    data: bytes
    lfs: bool

    @property
    def sha1(self) -> str:
        """Git's id of it; of LFS that of something else, as the pointer's is."""
        body = b"pointer" + self.data if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class Repo:
    """A repository with one branch, `main`."""

    private: bool
    commits: list[dict[str, Blob]] = field(default_factory=lambda: [{}])
    messages: list[str] = field(default_factory=lambda: ["initial commit"])

    @property
    def files(self) -> dict[str, Blob]:
        return self.commits[-1]

    def sha(self, number: int = -1) -> str:
        return hashlib.sha1(str(range(len(self.commits))[number]).encode()).hexdigest()

    def at(self, revision: str) -> tuple[str, dict[str, Blob]] | None:
        if revision == "main":
            return self.sha(), self.files
        numbers = [number for number in range(len(self.commits)) if self.sha(number) == revision]
        return (revision, self.commits[numbers[0]]) if numbers else None


@dataclass
class Fault:
    """What is answered in place of the next requests whose "METHOD path" matches."""

    matches: str
    status: int = 503
    times: float = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    cut: bool = False
    """The connection is closed before a word is said; of a download, in the middle."""
    late: bool = False
    """What was asked is done first."""


@dataclass
class Hub:
    """The Hub's state, and what it was asked."""

    port: int = 0
    repos: dict[str, Repo] = field(default_factory=dict)
    """By `datasets/ann/name` and `models/ann/name`."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """What was sent by LFS, by SHA-256."""
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    puts: Counter[str] = field(default_factory=Counter)
    """How often each object was sent whole, by SHA-256."""
    gate: threading.Event = field(default_factory=threading.Event)
    """While it is not set, objects after the first `open_puts` are not taken."""
    open_puts: float = float("inf")
    admitted: int = 0
    """Objects so far that did not wait at the gate."""
    admitting: threading.Lock = field(default_factory=threading.Lock)
    ignored: frozenset[str] = frozenset()
    """Names that its .gitignore names."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, words: str) -> int:
        return sum(bool(re.search(words, request)) for request in self.requests)

    def commits(self, name: str) -> int:
        """Those after the first, which makes the repository."""
        return len(self.repos[name].commits) - 1


class Handler(BaseHTTPRequestHandler):
    """One request after another."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    hushed = cutting = False

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        path, _, query = self.path.partition("?")
        self.path, self.query = urllib.parse.unquote(path), urllib.parse.parse_qs(query)
        self.hub.requests.append(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self._fault()
        self.cutting = fault is not None and fault.cut
        if fault and not fault.late and not (fault.cut and self.command == "GET" and "/resolve/" in self.path):
            return self._answer(fault)
        self.hushed = fault is not None and fault.late
        self._route()
        if fault and fault.late:
            self._answer(fault)
        return None

    do_GET = do_HEAD = do_PUT = do_POST = _handle

    def _fault(self) -> Fault | None:
        for fault in self.hub.faults:
            if fault.times and re.search(fault.matches, f"{self.command} {self.path}"):
                fault.times -= 1
                return fault
        return None

    def _answer(self, fault: Fault) -> None:
        if fault.cut:
            self.close_connection = True
            self.connection.close()
            return
        self.hushed = False
        self._say(fault.status, {"error": fault.body or "a fault"}, fault.headers)

    def _say(self, status: int, document: object = None, headers: dict[str, str] | None = None) -> None:
        if self.hushed:
            return
        data = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _route(self) -> None:
        routes: list[tuple[str, Callable[..., None]]] = [
            (r"POST /api/repos/create", self._create),
            (r"POST /api/validate-yaml", lambda: self._say(200, {"errors": [], "warnings": []})),
            (r"(?:GET|HEAD) /api/(datasets|models)/(\w+/[\w.-]+)(?:/revision/(.+))?", self._info),
            (r"GET /api/(datasets|models)/(\w+/[\w.-]+)/tree/(\w+)(?:/(.+))?", self._tree),
            (r"POST /api/(datasets|models)/(\w+/[\w.-]+)/paths-info/(\w+)", self._paths),
            (r"POST /api/(datasets|models)/(\w+/[\w.-]+)/preupload/(\w+)", self._preupload),
            (r"POST /api/(datasets|models)/(\w+/[\w.-]+)/commit/(\w+)", self._commit),
            (r"POST /(?:(datasets)/)?(\w+/[\w.-]+)\.git/info/lfs/objects/batch", self._batch),
            (r"PUT /objects/(\w{64})", self._put),
            (r"POST /verify", lambda: self._say(200 if json.loads(self.body)["oid"] in self.hub.objects else 404)),
            (r"(?:GET|HEAD) /(?:(datasets)/)?(\w+/[\w.-]+)/resolve/(\w+)/(.+)", self._resolve),
        ]
        for pattern, act in routes:
            if found := re.fullmatch(pattern, f"{self.command} {self.path}"):
                act(*found.groups())
                return
        self._say(404, {"error": f"no such page: {self.path}"})

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _may_write(self, name: str) -> bool:
        """Say what is amiss where the asker may not."""
        if self.token not in (WRITER, READER):
            self._say(401, {"error": f"Invalid credentials: {self.token}"})
        elif self.token == READER or not name.startswith("ann/"):
            self._say(403, {"error": "you have no right"}, {"X-Error-Message": "you have no right"})
        else:
            return True
        return False

    def _repo(self, kind: str | None, name: str) -> Repo | None:
        """Say that there is none where the asker sees none."""
        repo = self.hub.repos.get(f"{kind or 'models'}/{name}")
        if repo and (not repo.private or self.token in (WRITER, READER)):
            return repo
        status = 404 if self.token in (WRITER, READER) else 401
        words = {"X-Error-Code": "RepoNotFound"} if status == 404 else {}
        self._say(status, {"error": "Repository not found"}, words)
        return None

    def _create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if self._may_write(name):
            kind = asked.get("type", "model")
            self.hub.repos.setdefault(f"{kind}s/{name}", Repo(private=asked.get("visibility") == "private"))
            self._say(200, {"url": f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"})

    def _at(self, kind: str | None, name: str, revision: str) -> tuple[Repo, str, dict[str, Blob]] | None:
        if repo := self._repo(kind, name):
            if found := repo.at(revision):
                return repo, *found
            self._say(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return None

    def _info(self, kind: str, name: str, revision: str | None) -> None:
        if found := self._at(kind, name, revision or "main"):
            repo, sha, files = found
            siblings = [{"rfilename": each} for each in files]
            self._say(200, {"id": name, "sha": sha, "private": repo.private, "siblings": siblings, "tags": []})

    def _entry(self, path: str, blob: Blob) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.sha1}
        lfs = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 130}
        return entry | ({"lfs": lfs} if blob.lfs else {})

    def _tree(self, kind: str, name: str, revision: str, below: str | None) -> None:
        if not (found := self._at(kind, name, revision)):
            return None
        prefix = f"{below}/" if below else ""
        files = {path: blob for path, blob in found[2].items() if path.startswith(prefix)}
        if below and not files:
            return self._say(404, {"error": "no such entry"}, {"X-Error-Code": "EntryNotFound"})
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            folders = {path[: path.index("/", len(prefix))] for path in files if "/" in path[len(prefix) :]}
            files = {path: blob for path, blob in files.items() if "/" not in path[len(prefix) :]}
        else:
            folders = set()
        entries = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders)]
        entries += [self._entry(path, blob) for path, blob in sorted(files.items())]
        first = int(self.query.get("cursor", ["0"])[0])
        following = f'<{self.hub.url}{self.path}?recursive=true&cursor={first + 500}>; rel="next"'
        return self._say(200, entries[first : first + 500], {"Link": following} if len(entries) > first + 500 else None)

    def _paths(self, kind: str, name: str, revision: str) -> None:
        if found := self._at(kind, name, revision):
            words = urllib.parse.parse_qs(self.body.decode())
            asked = json.loads(self.body)["paths"] if self.body.startswith(b"{") else words["paths"]
            self._say(200, [self._entry(path, found[2][path]) for path in asked if path in found[2]])

    def _preupload(self, kind: str, name: str, revision: str) -> None:
        if self._may_write(name) and (found := self._at(kind, name, revision)):
            answers = []
            for each in json.loads(self.body)["files"]:
                there = found[2].get(each["path"])
                answers.append(
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if each["size"] >= LFS_FROM else "regular",
                        "shouldIgnore": each["path"] in self.hub.ignored,
                        "oid": there and (there.sha256 if there.lfs else there.sha1),
                    }
                )
            self._say(200, {"files": answers})

    def _batch(self, kind: str | None, name: str) -> None:
        if not self._may_write(name):
            return
        objects = []
        for each in json.loads(self.body)["objects"]:
            target = {"href": f"{self.hub.url}/objects/{each['oid']}?X-Amz-Signature={WORD}signed"}
            actions = {"upload": target, "verify": {"href": f"{self.hub.url}/verify"}}
            objects.append(each if each["oid"] in self.hub.objects else {**each, "actions": actions})
        self._say(200, {"transfer": "basic", "objects": objects})

    def _put(self, oid: str) -> None:
        with self.hub.admitting:
            admitted = self.hub.admitted < self.hub.open_puts
            self.hub.admitted += admitted
        if not admitted:
            self.hub.gate.wait()
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._say(400, {"error": "other bytes"})
        self.hub.objects[oid] = self.body
        self.hub.puts[oid] += 1
        return self._say(200)

    def _commit(self, kind: str, name: str, revision: str) -> None:
        if not (self._may_write(name) and (found := self._at(kind, name, revision))):
            return None
        repo, files, message = found[0], dict(found[2]), ""
        for line in self.body.decode().splitlines():
            each = json.loads(line)
            value = each["value"]
            if each["key"] == "header":
                message = value["summary"]
            elif each["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif each["key"] == "deletedFile":
                del files[value["path"]]
            elif value["oid"] in self.hub.objects:
                files[value["path"]] = Blob(self.hub.objects[value["oid"]], lfs=True)
            else:
                return self._say(400, {"error": f"{value['path']} was not sent"})
        repo.commits.append(files)
        repo.messages.append(message)
        return self._say(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{repo.sha()}", "commitOid": repo.sha()})

    def _resolve(self, kind: str | None, name: str, revision: str, path: str) -> None:
        if not (found := self._at(kind, name, revision)):
            return None
        _, sha, files = found
        if not (blob := files.get(path)):
            return self._say(404, {"error": "no such entry"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first = int(wanted[1]) if wanted else 0
        data = blob.data[first : int(wanted[2]) + 1 if wanted and wanted[2] else None]
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", f'"{blob.sha256 if blob.lfs else blob.sha1}"')
        self.send_header("X-Repo-Commit", sha)
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{len(blob.data)}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if self.cutting else data)
        if self.cutting:
            self.close_connection = True
        return None


@pytest.fixture
def hub_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub, for this process, which writes as `ann`, and for those that it starts."""
    from huggingface_hub import constants

    made = Hub()
    made.gate.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": made}))
    server.daemon_threads = True
    made.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    home = tmp_path / "hub home"
    for name, value in {
        "HF_ENDPOINT": made.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home),
        "HF_TOKEN": WRITER,
    }.items():
        monkeypatch.setenv(name, value)
    for name, setting in {
        "ENDPOINT": made.url,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HUGGINGFACE_CO_URL_TEMPLATE": made.url + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():
        monkeypatch.setattr(constants, name, setting)
    file_systems.file_system.cache_clear()
    yield made
    made.gate.set()
    server.shutdown()
    server.server_close()
    file_systems.file_system.cache_clear()
