"""Checkpoints: what is saved comes back bit for bit, and a kill at any moment leaves a whole one."""

import errno
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinetics_sounds import files
from kinetics_sounds.errors import RunError
from kinetics_sounds.train.engine import checkpoint, checkpoint_state

Optimizer = torch.optim.Optimizer


class Net(nn.Module):
    """Channels-last convolutions, running statistics, an integer buffer, one weight under two names, one unused."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, width, 3, bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.out = nn.Linear(width, width)
        self.tied = nn.Linear(width, width, bias=False)
        self.tied.weight = self.out.weight
        self.unused = nn.Parameter(torch.ones(2))
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        pooled_BD: Tensor = torch.relu(self.norm(self.stem(video_BCTHW))).mean(dim=(2, 3, 4))
        scored_BD: Tensor = self.tied(torch.relu(self.out(pooled_BD)))
        return scored_BD


def net(seed: int = 0, width: int = 4) -> Net:
    torch.manual_seed(seed)
    return Net(width)


def sgd(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)


def plain_sgd(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def adamw(model: nn.Module) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-2)


def train(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        video_BCTHW = torch.randn(4, 3, 4, 6, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(video_BCTHW).square().sum().backward()
        optimizer.step()


def save(folder: Path, step: int, model: nn.Module, optimizer: Optimizer, *, keep: int = 2, **state: Any) -> Path:
    path: Path = checkpoint.save(folder, step, model=model, optimizer=optimizer, state=state, keep=keep)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of AdamW after two steps."""
    model = net()
    optimizer = adamw(model)
    train(model, optimizer, range(2))
    return save(tmp_path / "checkpoints", 2, model, optimizer, seed=7)


class TestRoundTrip:
    @pytest.mark.parametrize("kind", [sgd, plain_sgd, adamw])
    def test_two_steps_and_two_more_are_four(self, kind: Callable[[nn.Module], Optimizer], tmp_path: Path) -> None:
        whole = net()
        train(whole, kind(whole), range(4))
        half = net()
        optimizer = kind(half)
        train(half, optimizer, range(2))
        path = save(tmp_path, 2, half, optimizer)

        other = net(seed=1)
        optimizer = kind(other)
        checkpoint.load_model(path, other)
        checkpoint.load_optimizer(path, other, optimizer)
        train(other, optimizer, range(2, 4))

        for name, tensor in whole.state_dict().items():
            assert torch.equal(other.state_dict()[name], tensor), name

    @pytest.mark.parametrize("kind", [sgd, adamw])
    def test_memory_formats_stay_what_they_were(self, kind: Callable[[nn.Module], Optimizer], tmp_path: Path) -> None:
        """A step over a channels-last weight and a contiguous momentum would be slow."""
        model = net()
        optimizer = kind(model)
        train(model, optimizer, range(1))
        before = model.stem.weight.stride()
        path = save(tmp_path, 1, model, optimizer)

        checkpoint.load_model(path, model)
        checkpoint.load_optimizer(path, model, optimizer)

        assert model.stem.weight.stride() == before != model.stem.weight.contiguous().stride()
        large = [value for value in optimizer.state[model.stem.weight].values() if value.ndim]
        assert large
        assert all(value.stride() == before for value in large)

    def test_a_weight_of_two_names_stays_one(self, saved: Path) -> None:
        model = net(seed=1)

        checkpoint.load_model(saved, model)

        assert model.tied.weight is model.out.weight
        stored = load_file(saved / "model.safetensors")
        assert torch.equal(stored["tied.weight"], stored["out.weight"])
        assert torch.equal(stored["tied.weight"], model.tied.weight)

    def test_training_on_does_not_change_the_file_it_came_from(self, saved: Path) -> None:
        before = {path.name: path.read_bytes() for path in saved.iterdir()}
        model = net(seed=1)
        optimizer = adamw(model)
        checkpoint.load_model(saved, model)
        checkpoint.load_optimizer(saved, model, optimizer)

        train(model, optimizer, range(2))

        assert {path.name: path.read_bytes() for path in saved.iterdir()} == before

    def test_saving_changes_neither_model_nor_optimiser(self, tmp_path: Path) -> None:
        alone, saving = net(), net()
        first, second = adamw(alone), adamw(saving)
        for step in range(4):
            train(alone, first, range(step, step + 1))
            train(saving, second, range(step, step + 1))
            save(tmp_path, step, saving, second)

        assert all(torch.equal(alone.state_dict()[name], tensor) for name, tensor in saving.state_dict().items())


class TestFolder:
    def test_a_checkpoint_is_two_safetensors_and_a_json(self, saved: Path) -> None:
        assert names(saved) == ["model.safetensors", "optimizer.safetensors", "state.json"]
        assert json.loads((saved / "state.json").read_text()) == {"schema": 1, "step": 2, "seed": 7}
        assert set(load_file(saved / "model.safetensors")) == set(net().state_dict())
        assert set(load_file(saved / "optimizer.safetensors")) == {
            f"{name}/{kind}"
            for name in ("stem.weight", "norm.weight", "norm.bias", "out.weight", "out.bias")
            for kind in ("exp_avg", "exp_avg_sq", "step")
        }

    def test_nothing_in_it_is_pickle(self, saved: Path) -> None:
        for path in saved.glob("*.safetensors"):
            data = path.read_bytes()
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            bytes_of_tensors = max(each["data_offsets"][1] for name, each in header.items() if name != "__metadata__")
            assert len(data) == 8 + int.from_bytes(data[:8], "little") + bytes_of_tensors

    @pytest.mark.parametrize("keep", [1, 2, 3])
    def test_the_newest_are_kept(self, keep: int, tmp_path: Path) -> None:
        model = net()
        for step in (1, 2, 9, 10, 100):
            save(tmp_path, step, model, sgd(model), keep=keep)

        kept = ["step-00000002", "step-00000009", "step-00000010", "step-00000100"]
        assert names(tmp_path) == kept[-keep:]
        assert checkpoint.latest(tmp_path) == tmp_path / "step-00000100"

    def test_there_is_none_where_nothing_was_saved(self, tmp_path: Path) -> None:
        assert checkpoint.latest(tmp_path) is None
        assert checkpoint.latest(tmp_path / "nowhere") is None

    def test_what_is_not_whole_is_not_seen_and_goes_with_the_next_one(self, saved: Path) -> None:
        folder = saved.parent
        for name in ("step-00000003.part", "step-00000001.old.part"):
            shutil.copytree(saved, folder / name)
        (folder / "notes.txt").touch()

        assert checkpoint.latest(folder) == saved
        model = net()
        save(folder, 4, model, sgd(model))

        assert names(folder) == ["notes.txt", "step-00000002", "step-00000004"]

    def test_the_same_step_again_replaces_it(self, saved: Path) -> None:
        model = net(seed=5)
        save(saved.parent, 2, model, adamw(model))

        assert names(saved.parent) == ["step-00000002"]
        assert torch.equal(load_file(saved / "model.safetensors")["out.bias"], model.out.bias)

    def test_last_and_names_are_found(self, saved: Path) -> None:
        model = net()
        save(saved.parent, 30, model, adamw(model))

        assert checkpoint.find(saved.parent, "last") == saved.parent / "step-00000030"
        assert checkpoint.find(saved.parent, "step-00000002") == saved

    def test_an_unknown_name_lists_those_there_are(self, saved: Path) -> None:
        with pytest.raises(RunError, match=r"no checkpoint 'step-3'; there are: step-00000002;"):
            checkpoint.find(saved.parent, "step-3")
        with pytest.raises(RunError, match=r"no checkpoint 'last'; there are: none; train first with ks-train"):
            checkpoint.find(saved / "nowhere", "last")


def test_what_a_save_that_met_a_fault_left_over_goes(tmp_path: Path) -> None:
    model = net()
    for step in (1, 2, 3, 4):
        save(tmp_path, step, model, adamw(model), keep=4)
    shutil.copytree(tmp_path / "step-00000004", tmp_path / "step-00000004.old")  # beside the new one
    shutil.copytree(tmp_path / "step-00000004", tmp_path / "step-00000000.old.part")
    (tmp_path / "step-00000003").rename(tmp_path / "step-00000003.old")  # the only one of its step

    checkpoint.tidy(tmp_path)
    assert names(tmp_path) == ["step-00000001", "step-00000002", "step-00000003.old", "step-00000004"]
    checkpoint.tidy(tmp_path, keep=2, best=1)
    assert names(tmp_path) == ["step-00000001", "step-00000003.old", "step-00000004"]


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[str]]]:
    """A function that lets a number of writing acts pass and ends the process before or within the next one.

    Returns the acts that were begun.
    """
    acts: list[str] = []
    left = [10**9]

    def guard(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def act(*args: Any, **how: Any) -> Any:
            if left[0] == 0:
                if name == "rmtree":  # half of it is gone
                    for path in sorted(Path(args[0]).iterdir())[:2]:
                        path.unlink()
                if name == "save_file":  # half of it is written
                    Path(args[1]).write_bytes(b"half")
                raise KilledError
            left[0] -= 1
            acts.append(name)
            return real(*args, **how)

        monkeypatch.setattr(owner, name, act)

    for owner, name in (
        *((os, name) for name in ("fsync", "replace", "mkdir")),
        (shutil, "rmtree"),
        (checkpoint, "save_file"),
        (Path, "write_text"),
    ):
        guard(owner, name)

    def kill(after: int) -> list[str]:
        left[0] = after
        acts.clear()
        return acts

    yield kill
    left[0] = 10**9


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_kill_at_any_moment_of_a_save_leaves_the_last_checkpoint_or_the_new_one(
    keep: int, before: int, tmp_path: Path, killed_at: Callable[[int], list[str]]
) -> None:
    model = net()
    optimizer = adamw(model)
    train(model, optimizer, range(1))
    for step in range(1, before + 1):
        save(tmp_path / "whole", step, model, optimizer, keep=keep)
    survived, after = False, 0
    while not survived:
        folder = tmp_path / f"killed after {after}"
        killed_at(10**9)
        shutil.copytree(tmp_path / "whole", folder)
        acts = killed_at(after)
        try:
            save(folder, 9, model, optimizer, keep=keep)
            survived = True
        except KilledError:
            pass

        latest = checkpoint.latest(folder)
        assert latest is not None
        for name in names(folder):
            assert name.endswith(".part") or len(names(folder / name)) == 3
        assert latest.name == (f"step-{before:08d}" if acts.count("replace") == 0 else "step-00000009")
        _load(latest)
        assert checkpoint_state.read_state(latest)["step"] in (before, 9)

        killed_at(10**9)
        save(folder, 10, model, optimizer, keep=keep)  # the next run goes on, and cleans up
        assert all(not name.endswith(".part") for name in names(folder))
        assert len(names(folder)) <= keep
        after += 1
    assert after > 8


def test_a_checkpoint_is_on_disk_before_it_has_its_name_and_its_name_before_an_older_one_goes(
    tmp_path: Path, disk_acts: list[str]
) -> None:
    model, folder = net(), tmp_path / "checkpoints"
    save(folder, 1, model, adamw(model), keep=1)
    disk_acts.clear()
    save(folder, 2, model, adamw(model), keep=1)

    assert sorted(disk_acts[:3]) == ["sync model.safetensors", "sync optimizer.safetensors", "sync state.json"]
    assert disk_acts[3:] == [
        "sync step-00000002.part",  # the names of the files
        "rename step-00000002.part step-00000002",
        "sync checkpoints",  # the checkpoint's own
        "rename step-00000001 step-00000001.old.part",
    ]


def test_what_a_kill_left_beside_a_step_that_was_saved_again_goes(saved: Path) -> None:
    """It would be a checkpoint again once the step's own is pruned."""
    folder, model = saved.parent, net()
    shutil.copytree(saved, folder / "step-00000002.old")
    for kept in ("step-00000001.old", "step-film.mp4.part"):  # a checkpoint as yet, and a thing of the user's own
        shutil.copytree(saved, folder / kept)
    (folder / "step-00000003.old.part").mkdir()

    checkpoint.tidy(folder)
    assert names(folder) == ["step-00000001.old", "step-00000002", "step-film.mp4.part"]
    checkpoint.tidy(folder / "not there")

    shutil.copytree(saved, folder / "step-00000002.old")
    for step in (7, 8):
        save(folder, step, model, sgd(model), keep=2)
    assert names(folder) == ["step-00000007", "step-00000008", "step-film.mp4.part"]


@pytest.mark.parametrize("fails", ["step-00000002", "step-00000002.part"])
def test_a_rename_that_fails_leaves_the_checkpoint_that_was_there_under_its_name(
    fails: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == fails:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    model = net(seed=5)
    with pytest.raises(OSError, match="Input/output error"):
        save(saved.parent, 2, model, adamw(model))

    assert names(saved.parent) == ["step-00000002"]
    assert not torch.equal(load_file(saved / "model.safetensors")["out.bias"], model.out.bias)


class Evil:
    """Its pickle leaves a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class TestFaults:
    @pytest.mark.parametrize("protocol", [2, 4])
    @pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
    def test_a_pickle_under_a_checkpoints_name_is_not_loaded(self, name: str, protocol: int, saved: Path) -> None:
        evil = {"out.bias": Evil(saved.parent / "run")}
        torch.save(evil, saved / name, pickle_protocol=protocol)

        with pytest.raises(RunError, match=rf"{name}: cannot be read"):
            _load(saved)
        (saved / name).write_bytes(pickle.dumps(evil, protocol))
        with pytest.raises(RunError, match=rf"{name}: cannot be read"):
            _load(saved)

        assert not (saved.parent / "run").exists()

    def test_the_checkpoint_of_another_model_is_refused_in_one_line(self, saved: Path) -> None:
        with pytest.raises(RunError, match=r"belongs to another model: .* size mismatch for stem\.weight") as caught:
            checkpoint.load_model(saved, net(width=8))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        with pytest.raises(RunError, match=r"belongs to another model: .*[Mm]issing key"):
            checkpoint.load_model(saved, nn.Linear(4, 4))

    def test_an_optimiser_of_another_model_is_refused(self, saved: Path) -> None:
        other = nn.Linear(4, 4)

        with pytest.raises(RunError, match=r"its optimizer has '[a-z.]+', which the model does not have"):
            checkpoint.load_optimizer(saved, other, adamw(other))

    @pytest.mark.parametrize("data", [b"", b"garbage" * 100, b"\xff" * 200, b"\x80\x04]\x94."])
    @pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
    def test_garbage_is_refused_with_the_remedy(self, name: str, data: bytes, saved: Path) -> None:
        (saved / name).write_bytes(data)

        with pytest.raises(
            RunError, match=rf"{name}: cannot be read \(.*\); delete that folder to use the previous checkpoint"
        ):
            _load(saved)

    @pytest.mark.parametrize(
        "error",
        [
            OSError("Input/output error (os error 5)"),
            FileNotFoundError("No such file or directory: /a"),  # which is there
            SafetensorError("Error while opening: Input/output error (os error 5)"),
            RuntimeError("unable to open file </a> in read-only mode: Input/output error (5)"),
        ],
    )
    @pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimizer.safetensors"])
    def test_a_checkpoint_is_not_to_be_removed_because_the_disk_fails(
        self, name: str, error: Exception, saved: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Safetensors and torch raise what has no number, but words that have it."""
        real, load = files.read_json, checkpoint.load_file

        def read(path: Path, **more: Any) -> object:
            if path.name == name:
                raise OSError(errno.EIO, "Input/output error", str(path))
            return real(path, **more)

        def tensors(path: Path) -> dict[str, Tensor]:
            if path.name == name:
                raise error
            loaded: dict[str, Tensor] = load(path)
            return loaded

        monkeypatch.setattr(files, "read_json", read)
        monkeypatch.setattr(checkpoint, "load_file", tensors)
        with pytest.raises(
            RunError, match=rf"{name}: cannot be read \(.*\); check that the disk is available"
        ) as caught:
            checkpoint_state.read_state(saved) if name == "state.json" else _load(saved)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EIO

    @pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
    def test_why_a_file_cannot_be_opened_is_asked_of_the_system(
        self, number: int, saved: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Safetensors says of any file that cannot be opened that it is not there."""
        file, real = saved / "model.safetensors", Path.open

        def fails(path: Path, *args: Any, **more: Any) -> Any:
            if path == file:
                raise OSError(number, os.strerror(number), str(file))
            return real(path, *args, **more)

        def missing(*_: object, **__: object) -> None:
            raise FileNotFoundError(f"No such file or directory: {file}")

        monkeypatch.setattr(Path, "open", fails)
        monkeypatch.setattr(checkpoint, "load_file", missing)
        monkeypatch.setattr(checkpoint, "safe_open", missing)
        for read in (checkpoint.load_model, checkpoint.check_shapes):
            with pytest.raises(
                RunError, match=rf"\({re.escape(f'[Errno {number}]')}.*check that the disk is available"
            ) as caught:
                read(saved, net())
            assert isinstance(caught.value.__cause__, OSError)
            assert caught.value.__cause__.errno == number

    def test_a_number_that_no_error_of_the_system_has_is_none(
        self, saved: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object) -> None:
            raise SafetensorError(f"invalid offset ({'9' * 20})")

        monkeypatch.setattr(checkpoint, "load_file", fails)
        with pytest.raises(RunError, match=r"invalid offset .*delete that folder"):
            checkpoint.load_model(saved, net())

    def test_a_file_that_was_cut_short_is_refused(self, saved: Path) -> None:
        path = saved / "model.safetensors"
        os.truncate(path, path.stat().st_size - 1)

        with pytest.raises(RunError, match="cannot be read"):
            _load(saved)

    def test_a_missing_file_is_refused(self, saved: Path) -> None:
        (saved / "optimizer.safetensors").unlink()

        with pytest.raises(RunError, match="cannot be read"):
            _load(saved)

    @pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 100_000, " " * (2 << 20)])
    def test_a_damaged_state_is_refused(self, text: str, saved: Path) -> None:
        (saved / "state.json").write_text(text)

        with pytest.raises(RunError, match=r"state\.json: cannot be read"):
            checkpoint_state.read_state(saved)

    def test_a_state_of_more_than_a_mebibyte_is_refused_though_it_is_well_formed(self, saved: Path) -> None:
        path = saved / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "more": "x" * (1 << 20)}))

        with pytest.raises(RunError, match="it is larger than 1048576 bytes"):
            checkpoint_state.read_state(saved)

    @pytest.mark.parametrize("told", ["steps", {"step": 3}, [{"step": 3}], [["step", "setting", "before", "after"]]])
    def test_changes_that_are_no_list_of_them_are_refused(self, told: object, saved: Path) -> None:
        path = saved / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "changed_on_resume": told}))

        with pytest.raises(RunError, match=r"its changed_on_resume is .*, which is no list of changes"):
            checkpoint_state.read_state(saved)

    @pytest.mark.parametrize("text", ["[]", "3", "{}", '{"schema": 2}', '{"schema": "1"}'])
    def test_another_schema_is_refused(self, text: str, saved: Path) -> None:
        (saved / "state.json").write_text(text)

        with pytest.raises(RunError, match=r"is of schema .*, where this version reads 1"):
            checkpoint_state.read_state(saved)


def _load(path: Path) -> None:
    model = net()
    checkpoint.load_model(path, model)
    checkpoint.load_optimizer(path, model, adamw(model))


class Shared(nn.Module):
    """One encoder under the names of two."""

    def __init__(self) -> None:
        super().__init__()
        self.video = self.audio = nn.Linear(2, 2)


def test_one_encoder_with_a_weight_that_is_no_number_is_still_one(tmp_path: Path) -> None:
    """What diverged may be looked at; two encoders that differ beside a NaN are two."""
    weights = {name: torch.tensor([[float("nan"), 1.0], [2.0, 3.0]]) for name in ("video.weight", "audio.weight")}
    weights |= {name: torch.zeros(2) for name in ("video.bias", "audio.bias")}
    save_file(weights, tmp_path / "model.safetensors")

    model = Shared()
    checkpoint.load_common(tmp_path, model, ("video.", "audio."))

    assert torch.equal(model.video.weight.detach().isnan(), torch.tensor([[True, False], [False, False]]))
    weights["audio.weight"][1, 1] = 4.0
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(RunError, match="has an encoder for each modality"):
        checkpoint.load_common(tmp_path, Shared(), ("video.", "audio."))


class Headed(Shared):
    """With heads of this width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, width))


def test_heads_are_carried_whole_or_not_at_all(tmp_path: Path) -> None:
    """Half of a head would be neither a beginning nor what was learnt."""
    source = Headed(4)
    save(tmp_path, 1, source, adamw(source))
    path = checkpoint.find(tmp_path, "last")
    same, other = Headed(4), Headed(5)
    before = [value.clone() for value in other.heads.state_dict().values()]

    assert checkpoint.load_common(path, same, ("video.", "audio.", "heads.")).startswith("audio, heads, video from")
    assert checkpoint.load_common(path, other, ("video.", "audio.", "heads.")).startswith("audio, video from")
    assert torch.equal(same.state_dict()["heads.1.weight"], source.state_dict()["heads.1.weight"])
    assert torch.equal(other.video.weight, source.video.weight)
    assert all(torch.equal(*pair) for pair in zip(before, other.heads.state_dict().values(), strict=True))


def _nothing_is_left_of_a_save_that_does_not_fit(folder: Path) -> None:
    model = net()
    save(folder, 1, model, adamw(model))
    big = nn.Linear(600, 600)  # 1.44 MB, and twice that of AdamW's moments
    optimizer = adamw(big)
    big(torch.ones(1, 600)).sum().backward()
    optimizer.step()

    with pytest.raises(OSError, match="No space left") as caught:
        save(folder, 2, big, optimizer)
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value.filename).startswith(str(folder / "step-00000002"))
    assert caught.value.__notes__ == ["about 4.3 MB are needed"]
    assert names(folder) == ["step-00000001"]


def test_a_full_disk_is_told_with_what_is_needed_and_no_half_checkpoint_is_left(small_disk: Path) -> None:
    _nothing_is_left_of_a_save_that_does_not_fit(small_disk / "checkpoints")


def test_what_safetensors_says_of_a_full_disk_is_the_systems_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint.save_file

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if sum(each.nbytes for each in tensors.values()) > 1_000_000:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    _nothing_is_left_of_a_save_that_does_not_fit(tmp_path / "checkpoints")


def test_a_step_that_is_saved_again_never_leaves_a_moment_without_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = net()
    optimizer = adamw(model)
    save(tmp_path, 1, model, optimizer, keep=1, round=1)
    real, rounds = Path.replace, list[int]()

    def replace(self: Path, target: Path) -> Path:
        moved = real(self, target)
        there = checkpoint.latest(tmp_path)
        assert there is not None
        assert checkpoint.find(tmp_path, "step-00000001") == there
        rounds.append(checkpoint_state.read_state(there)["round"])
        return moved

    monkeypatch.setattr(Path, "replace", replace)
    save(tmp_path, 1, model, optimizer, keep=1, round=2)
    assert rounds == [1, 2, 2]  # moved aside, the new one in its place, the old one dropped
    assert names(tmp_path) == ["step-00000001"]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_the_files_of_a_checkpoint_have_the_mode_that_the_umask_says(mask: int, tmp_path: Path) -> None:
    model = net()
    before = os.umask(mask)
    try:
        path = save(tmp_path, 1, model, adamw(model))
    finally:
        os.umask(before)
    assert {file.name: file.stat().st_mode & 0o777 for file in path.iterdir()} == dict.fromkeys(
        ["model.safetensors", "optimizer.safetensors", "state.json"], 0o666 & ~mask
    )
