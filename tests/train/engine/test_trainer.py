"""What a run asks of its method besides a loss: when, with what, and what becomes of it in a checkpoint."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kinetics_sounds.errors import RunError
from kinetics_sounds.train import load, pretrain
from kinetics_sounds.train.config import run_folder
from kinetics_sounds.train.engine import checkpoint
from kinetics_sounds.train.interface import Batch, Data, Method, Moment, Output
from kinetics_sounds.train.methods import avcl, supervised

Argv = Callable[..., list[str]]
Plugged = Callable[[type[Method]], list[Method]]
CONSTANT = ("--optim.schedule=constant", "--optim.warmup_steps=0")


class Noting(avcl.Avcl):  # type: ignore[misc]
    """AVCL that notes when it is asked what, and counts its rows in a buffer that all ranks have alike."""

    REPLICATED = ("bank",)

    def __init__(self, settings: Any, *, video: nn.Module, audio: nn.Module, data: Data) -> None:
        super().__init__(settings, video=video, audio=audio)
        self.epochs: list[Moment] = []
        self.labels: list[int] = []
        self.rows: list[list[int]] = []
        self.trains: list[tuple[Moment, bool]] = []
        if data.samples:
            self.register_buffer("bank", torch.zeros(data.samples))

    def forward(self, batch: Batch, moment: Moment) -> Output:
        self.trains.append((moment, batch.row is not None))
        kept = {} if batch.row is None else {"row": batch.row, "place": batch.place}
        return super().forward(batch, moment)._replace(kept=kept)

    def on_epoch(self, moment: Moment, labels: Tensor) -> None:
        self.epochs.append(moment)
        self.labels = labels.tolist()

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        assert kept["place"].tolist() == [0, 1, 2, 3]
        self.rows.append(kept["row"].tolist())
        self.get_buffer("bank")[kept["row"]] += 1


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Plugged:
    """A function that puts a method in AVCL's place, and gives the list of those that will be made."""

    def plug(kind: type[Method]) -> list[Method]:
        made: list[Method] = []

        def build(settings: Any, *, video: nn.Module, audio: nn.Module, data: Data) -> Method:
            made.append(kind(settings, video=video, audio=audio, data=data))
            return made[-1]

        monkeypatch.setattr(avcl, "build", build)
        return made

    return plug


class TestMoments:
    def test_an_epoch_is_announced_before_its_first_step_and_updates_come_with_their_rows(
        self, plugged: Plugged, small: Argv, tmp_path: Path
    ) -> None:
        """12 samples in batches of 4: epochs begin at steps 0 and 3, and each sees every row once."""
        made = plugged(Noting)
        assert pretrain.main(small(tmp_path, "--seed=5", "--val_split=test")) == 0
        method: Any = made[-1]

        assert method.epochs == [Moment(seed=5, step=0, epoch=0), Moment(seed=5, step=3, epoch=1)]
        assert method.labels == [0, 1] * 6
        for epoch in (method.rows[:3], method.rows[3:]):
            assert sorted(itertools.chain(*epoch)) == list(range(12))
        assert method.get_buffer("bank").tolist() == [2.0] * 12
        learnt = [moment for moment, trains in method.trains if trains]
        assert learnt == [Moment(seed=5, step=step, epoch=step // 3) for step in range(6)]
        judged = {(moment.step, moment.epoch) for moment, trains in method.trains if not trains}
        assert judged == {(2, 0), (5, 1)}  # after the last step of its epoch

    def test_an_epoch_may_be_several_passes_each_in_an_order_of_its_own(
        self, plugged: Plugged, small: Argv, tmp_path: Path
    ) -> None:
        """Two clips a video: 12 samples in batches of 4 are 6 steps an epoch, judged once, and each three see every row once."""
        made = plugged(Noting)
        assert (
            pretrain.main(small(tmp_path, "--clips_per_video=2", "--steps=null", "--epochs=1", "--val_split=test")) == 0
        )
        method: Any = made[-1]

        assert [moment.step for moment in method.epochs] == [0]
        passes = [list(itertools.chain(*method.rows[first : first + 3])) for first in (0, 3)]
        assert [sorted(each) for each in passes] == [list(range(12))] * 2
        assert passes[0] != passes[1]
        assert {moment.step for moment, trains in method.trains if not trains} == {5}
        assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[2])["epoch"] == 0.5

    def test_micro_batches_are_numbered_within_their_step(self, plugged: Plugged, small: Argv, tmp_path: Path) -> None:
        made = plugged(Noting)
        assert pretrain.main(small(tmp_path, "--grad_accum_steps=2", "--steps=2")) == 0
        method: Any = made[-1]

        assert [(moment.step, moment.micro) for moment, _ in method.trains] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert [len(rows) for rows in method.rows] == [4, 4]

    def test_no_epoch_is_announced_where_a_run_goes_on_in_the_middle_of_it(
        self, plugged: Plugged, small: Argv, tmp_path: Path
    ) -> None:
        made = plugged(Noting)
        for steps in (2, 5):
            assert pretrain.main(small(tmp_path, *CONSTANT, f"--steps={steps}")) == 0
        method: Any = made[-1]

        assert [moment.step for moment in method.epochs] == [3]
        assert method.get_buffer("bank").sum() == 20  # those of the first two steps came back


class TestReplicated:
    @pytest.fixture
    def banked(self, plugged: Plugged, small: Argv, tmp_path: Path) -> Path:
        plugged(Noting)
        assert pretrain.main(small(tmp_path / "banked", "--steps=3", "--save_every=3")) == 0
        return tmp_path / "banked"

    def test_they_lie_in_a_file_of_their_own_which_an_evaluation_does_not_ask_for(self, banked: Path) -> None:
        path = banked / "checkpoints" / "step-00000003"
        assert load_file(path / "replicated.safetensors")["bank"].tolist() == [1.0] * 12
        assert "bank" not in load_file(path / "model.safetensors")

        (path / "replicated.safetensors").unlink()
        assert "bank" not in load(banked).method.state_dict()

    def test_a_run_that_goes_on_without_them_is_refused(
        self, banked: Path, small: Argv, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (banked / "checkpoints" / "step-00000003" / "replicated.safetensors").unlink()

        assert pretrain.main(small(banked, "--steps=4", "--resume=anyway")) == 2
        assert "replicated.safetensors: cannot be read" in capsys.readouterr().err

    def test_a_method_without_any_has_no_such_file(self, finished: Path) -> None:
        assert not list(finished.rglob("replicated.safetensors"))


class TestInit:
    def test_a_method_is_shown_the_facts_of_the_run_whose_weights_it_takes_and_its_own(
        self, plugged: Plugged, finished: Path, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shown: list[Mapping[str, Any]] = []

        class Choosy(Noting):
            def adopt(self, facts: Mapping[str, Any], own: Mapping[str, Any]) -> None:
                shown.extend((facts, own))
                raise RunError("of another set")

        plugged(Choosy)
        assert pretrain.main(small(tmp_path, "--seed=9", f"--init_from={finished}")) == 2

        assert "of another set" in capsys.readouterr().err
        facts, own = shown
        assert facts == run_folder.read_facts(finished)
        assert (own["fingerprint"], own["data"]["samples"]) == (facts["fingerprint"], 12)

    def test_what_its_prefixes_name_is_carried_over_and_nothing_else(self, tmp_path: Path) -> None:
        def net() -> nn.Module:
            parts = {name: nn.Linear(2, 2) for name in ("video", "audio", "heads", "own")}
            return nn.ModuleDict(parts)

        first, second = net(), net()
        before = {name: value.clone() for name, value in second.state_dict().items()}
        optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
        path = checkpoint.save(tmp_path, 1, model=first, optimizer=optimizer, state={}, keep=1)

        told = checkpoint.load_common(path, second, ("video.", "audio.", "heads.", "absent."))

        assert told == f"audio, heads, video from {path}"
        for name, value in second.state_dict().items():
            source = before if name.startswith("own.") else first.state_dict()
            assert torch.equal(value, source[name]), name

    def test_avcl_and_the_classifier_carry_the_gate(self) -> None:
        assert avcl.Avcl.INIT == supervised.Supervised.INIT == ("video.", "audio.", "amfm.")


def test_a_view_of_too_few_views_is_refused_with_what_to_give(
    plugged: Plugged, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Two(Noting):
        views = 2

    plugged(Two)
    assert pretrain.main(small(tmp_path)) == 2
    assert (
        "--clip_and_mel.views 1: --method avcl compares 2 views of a sample; give --clip_and_mel.views 2"
        in capsys.readouterr().err
    )
    assert pretrain.main(small(tmp_path, "--clip_and_mel.views=2", "--steps=1")) == 0


def test_a_method_that_cannot_be_asked_of_other_clips_has_no_validation(
    small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(small(tmp_path, "--method=avid", "--avid.negatives=4", "--val_split=test")) == 2
    assert (
        "--val_split test: --method avid has no loss on clips that it was not trained on; leave --val_split out"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(("schedule", "told"), [("constant", False), ("cosine", True), ("multistep", True)])
def test_other_steps_are_told_of_where_anything_follows_them(
    schedule: str, told: bool, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the rate of one group alone."""
    more = (*CONSTANT, f'--optim.schedules={{"audio.*": {schedule}}}', "--optim.milestones=[0.5]")
    for steps in (1, 2):
        assert pretrain.main(small(tmp_path, *more, f"--steps={steps}")) == 0

    assert ("schedule: 2 steps now, 1 before" in capsys.readouterr().out) == told


@pytest.mark.parametrize(
    ("schedule", "warmup_steps", "told"), [("constant", 1, False), ("constant", 2, True), ("fixed", 2, False)]
)
def test_a_warm_up_longer_than_the_first_part_was_shortened_to_it(
    schedule: str, warmup_steps: int, told: bool, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps in (1, 2):
        more = (f"--optim.schedule={schedule}", f"--optim.warmup_steps={warmup_steps}", f"--steps={steps}")
        assert pretrain.main(small(tmp_path, *more)) == 0

    assert ("schedule: 2 steps now, 1 before" in capsys.readouterr().out) == told


def test_a_method_that_follows_the_steps_is_told_of_too(
    plugged: Plugged, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Following(Noting):
        follows_steps = True

    plugged(Following)
    for steps in (1, 2):
        assert pretrain.main(small(tmp_path, *CONSTANT, f"--steps={steps}")) == 0

    assert "schedule: 2 steps now, 1 before" in capsys.readouterr().out
