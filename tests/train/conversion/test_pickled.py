"""Files of weights that mean harm, or are none, end in one sentence, and nothing of them is run."""

import dataclasses
import importlib
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.train.conversion import limited, pickled
from kinetics_sounds.train.conversion.limited import Limits

SAFE = pytest.mark.skipif(not pickled.is_safe(), reason="torch is too old to read weights safely, and refuses to")


class Harm:
    """What a pickle makes run: it leaves a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in a working folder for the files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def zipped(document: object, *, change: Callable[[str, bytes], bytes], compress: bool = False) -> None:
    """Save a document as torch does, with each of its members changed."""
    torch.save(document, "plain.pth")
    how = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile("plain.pth") as read, zipfile.ZipFile("file.pth", "w", how, compresslevel=1) as written:
        for name in read.namelist():
            written.writestr(name, change(name, read.read(name)))


def harm_in_a_checkpoint() -> None:
    torch.save({"model": {"a": torch.ones(2)}, "optimizer": Harm()}, "file.pth")


def harm_in_the_old_format() -> None:
    torch.save({"model": {"a": torch.ones(2)}, "optimizer": Harm()}, "file.pth", _use_new_zipfile_serialization=False)


def harm_alone() -> None:
    Path("file.pth").write_bytes(pickle.dumps(Harm(), protocol=2))


def harm_in_a_name() -> None:
    torch.save({"model": {"a\x1b[2J\n": torch.ones(2)}}, "file.pth")


def larger_than_its_memory() -> None:
    torch.save({"model": {"a": torch.ones(1).expand(1 << 40)}}, "file.pth")


def shared_many_times() -> None:
    one = torch.ones(1).expand(1 << 26)
    torch.save({"model": {f"a{number}": one for number in range(3)}}, "file.pth")


def storage_that_claims_more_than_there_is() -> None:
    def change(name: str, data: bytes) -> bytes:
        return data.replace(b"K\x4d", b"J\x00\x00\x00\x20") if name.endswith("data.pkl") else data

    zipped({"model": {"a": torch.ones(0x4D)}}, change=change)


def members_that_grow() -> None:
    def change(name: str, data: bytes) -> bytes:
        return bytes(1 << 27) if name.endswith("data/0") else data.replace(b"K\x4d", b"J\x00\x00\x00\x02")

    zipped({"model": {"a": torch.ones(0x4D)}}, change=change, compress=True)


def sparse() -> None:
    torch.save({"model": {"a": torch.eye(3).to_sparse()}}, "file.pth")


def without_memory() -> None:
    torch.save({"model": {"a": torch.ones(3, device="meta")}}, "file.pth")


def names_without_end() -> None:
    torch.save({"model": dict.fromkeys(map(str, range(10_001)), 0)}, "file.pth")


def numbers_as_names() -> None:
    torch.save({"model": {3: torch.ones(3)}}, "file.pth")


def a_list() -> None:
    torch.save([torch.ones(3)], "file.pth")


def a_zip_around_it() -> None:
    torch.save({"a": torch.ones(3)}, "vid.pth.tar")
    with zipfile.ZipFile("file.pth", "w") as written:
        written.write("vid.pth.tar")


def a_tar() -> None:
    Path("storages").write_bytes(pickle.dumps(0, protocol=2))
    with tarfile.open("file.pth", "w") as written:
        written.add("storages")


def cut_off() -> None:
    torch.save({"a": torch.ones(3000)}, "file.pth")
    os.truncate("file.pth", 4000)


def text() -> None:
    Path("file.pth").write_text("<html>404 Not Found</html>")


def nothing() -> None:
    Path("file.pth").touch()


def a_folder() -> None:
    Path("file.pth").mkdir()


def a_pipe() -> None:
    os.mkfifo("file.pth")


def a_link_to_a_device() -> None:
    Path("file.pth").symlink_to("/dev/zero")


def a_link_to_nowhere() -> None:
    Path("file.pth").symlink_to("nowhere")


def larger_than_any() -> None:
    Path("file.pth").touch()
    os.truncate("file.pth", (4 << 30) + 1)


WHOLE = "is not a whole file of torch.save (a .zip around one has to be unpacked first);"
HOSTILE = {
    harm_in_a_checkpoint: "holds more than weights (posix.system), and nothing of it was run; give the file as",
    harm_in_the_old_format: "holds more than weights (posix.system), and nothing of it was run; give the file as",
    harm_alone: "holds more than weights (posix.system), and nothing of it was run;",
    harm_in_a_name: "holds a name that no network has (a\\x1b[2J)",
    larger_than_its_memory: "holds weights of 4398046511104 bytes, and no more than 536870912 are read",
    shared_many_times: "holds weights of 805306368 bytes",
    storage_that_claims_more_than_there_is: WHOLE,
    members_that_grow: "needs more than 64 MiB of memory besides its own size",
    sparse: "holds a tensor that is not plain (a)",
    without_memory: "holds a tensor that is not plain (a)",
    names_without_end: "holds more than 10000 names",
    numbers_as_names: "holds a name that no network has (3)",
    a_list: "holds no table of weights",
    a_zip_around_it: WHOLE,
    a_tar: WHOLE,
    cut_off: WHOLE,
    text: WHOLE,
    nothing: WHOLE,
    a_folder: "is not a file; give the file as its authors published it",
    a_pipe: "is not a file;",
    a_link_to_a_device: "is not a file;",
    a_link_to_nowhere: "cannot be read (No such file or directory);",
    larger_than_any: "has 4294967297 bytes, and no more than 4294967296 are read",
}


@SAFE
@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_what_is_no_file_of_weights_is_refused_in_one_sentence(
    make: Callable[[], None], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickled, "WEIGHTS", dataclasses.replace(pickled.WEIGHTS, memory_bytes=1 << 26))
    make()

    with pytest.raises(RunError) as refused:
        pickled.read_weights(Path("file.pth"), scratch)

    said = str(refused.value)
    assert said.startswith(f"file.pth: {HOSTILE[make]}")
    assert said.isprintable()
    assert len(said) < 200
    assert not Path("harmed").exists()
    assert not list(scratch.iterdir())


def test_the_harm_is_harm() -> None:
    """Were a file read as any pickle, it would run."""
    assert pickle.loads(pickle.dumps(Harm(), protocol=2)) == 0
    assert Path("harmed").exists()
    Path("harmed").unlink()


@SAFE
def test_floating_point_tensors_and_counters_pass_and_all_else_is_named(scratch: Path) -> None:
    state = {
        "module.a.weight": torch.arange(6.0).view(2, 3).T,
        "module.a.half": torch.ones(2, dtype=torch.float16),
        "module.a.num_batches_tracked": torch.tensor(7),
        "module.ids": torch.arange(3),
        "module.eighth": torch.ones(2).to(torch.float8_e4m3fn),
        "module.text": "text",
    }
    torch.save({"epoch": 3, "state_dict": state}, "file.pth")
    Path("link.pth").symlink_to("file.pth")

    found = pickled.read_weights(Path("link.pth"), scratch)

    assert torch.equal(found.tensors["a.weight"], torch.tensor([[0.0, 3], [1, 4], [2, 5]]))
    assert found.tensors["a.half"].dtype == torch.float16
    assert found.tensors["a.num_batches_tracked"].item() == 7
    assert found.others == ("module.ids", "module.eighth", "module.text", "epoch")


def test_a_torch_whose_weights_only_is_not_safe_is_not_used(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harm_in_a_checkpoint()
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")

    with pytest.raises(SettingsError, match=r"torch 2\.5\.1\+cu121: may run code .* install torch 2\.6"):
        pickled.read_weights(Path("file.pth"), scratch)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Readers that take too much, as their process imports them."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("readers")


TOO_MUCH = {
    "spins": (60, "reading it took too much CPU time"),
    "waits": (2, "reading it took more than 2 s"),
    "dies": (60, "reading it ended a process (exit code -6)"),
    "writes": (60, "cannot be read (OSError: [Errno 27] File too large)"),
    "allocates": (60, "needs more than 64 MiB of memory besides its own size"),
    "tells": (60, "reading it ended a process"),
}
"""Seconds for each reader, and what is said of it."""


@pytest.mark.parametrize("reader", TOO_MUCH)
def test_a_process_that_takes_too_much_is_ended(reader: str, readers: Any, scratch: Path) -> None:
    seconds, said = TOO_MUCH[reader]
    Path("file").touch()
    limits = Limits(file_bytes=9, memory_bytes=1 << 26, written_bytes=1 << 16, cpu_seconds=1, seconds=seconds)

    with pytest.raises(RunError) as refused:
        limited.read(getattr(readers, reader), Path("file"), scratch / "out", limits=limits)

    assert str(refused.value).startswith(f"file: {said}")


def objects() -> None:
    np.savez("file.npz", mean=np.array([Harm()], dtype=object), std=np.ones(1))


def one_array() -> None:
    np.save("file.npz", np.ones(3))
    Path("file.npz.npy").rename("file.npz")


def of_another_kind() -> None:
    np.savez("file.npz", average=np.ones(3))


def unequal() -> None:
    np.savez("file.npz", mean=np.ones(3), std=np.ones(2))


def not_finite() -> None:
    np.savez("file.npz", mean=np.array([np.nan]), std=np.ones(1))


def of_any_size() -> None:
    np.savez("file.npz", mean=np.zeros(1), std=np.zeros(1))
    with zipfile.ZipFile("file.npz", "w") as written:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117) + b"\n"
        for name in ("mean.npy", "std.npy"):
            written.writestr(name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


BAD_STATISTICS = {
    objects: "cannot be read (ValueError: Object arrays cannot be loaded",
    one_array: "is not an .npz file with mean and std",
    of_another_kind: "is not an .npz file with mean and std",
    unequal: "has 3 means and 2 deviations",
    not_finite: "has means or deviations that cannot be",
    of_any_size: "needs more than 256 MiB of memory besides its own size",
}


@pytest.mark.parametrize("make", BAD_STATISTICS, ids=lambda make: make.__name__)
def test_statistics_that_cannot_be_are_refused(make: Callable[[], None], scratch: Path) -> None:
    make()

    with pytest.raises(RunError) as refused:
        pickled.read_statistics(Path("file.npz"), scratch)

    assert str(refused.value).startswith(f"file.npz: {BAD_STATISTICS[make]}")
    assert not Path("harmed").exists()
