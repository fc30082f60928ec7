"""One update: what precision, accumulation and clipping change of it, and what they do not."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from kinetics_sounds.errors import RunError
from kinetics_sounds.train.engine.build import ModelBundle
from kinetics_sounds.train.engine.step import NotFiniteError, TrainStep
from kinetics_sounds.train.interface import Batch, Method, Moment, Output
from kinetics_sounds.train.models.activation_checkpointing import checkpoint_activations
from kinetics_sounds.train.models.backbones import avid_r2plus1d, c3d, conv2d, r2plus1d, r3d, resnet18

from ..batches import MOMENT

CPU = torch.device("cpu")


class Regression(Method):  # type: ignore[misc]
    """The mean squared output of one layer: a loss that compares no two samples."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.video = self.audio = nn.Linear(3, 2, bias=False)
        self.seen: list[torch.dtype] = []

    def forward(self, batch: Batch, moment: Moment) -> Output:
        assert batch.video is not None
        output_BD = self.video(batch.video[:, 0])
        self.seen.append(output_BD.dtype)
        loss = output_BD.float().square().sum(dim=1).mean()
        return Output(loss, {"loss": loss.detach(), "rows": torch.tensor(float(len(output_BD)))})


def as_given() -> Any:
    """A view whose arrays are what the model takes."""
    return SimpleNamespace(augment=lambda arrays, _: arrays)


def updated(
    model: Method, batch: dict[str, Tensor], *, lr: float = 0.1, moment: Moment = MOMENT, **options: Any
) -> tuple[Output, Tensor]:
    """What an update said, and by how much it moved the weights."""
    built = ModelBundle(model, as_given(), None)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    outcome = TrainStep(built, optimizer, device=CPU, **options)(batch, moment)
    moved = [parameter.detach() - old for parameter, old in zip(model.parameters(), before, strict=True)]
    return outcome, torch.cat([each.flatten() for each in moved])


@pytest.fixture
def batch() -> dict[str, Tensor]:
    values = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    return {"video": values[:, None], "label": torch.zeros(6), "index": torch.arange(6), "place": torch.arange(6)}


class LossAlone(Regression):
    def forward(self, batch: Batch, moment: Moment) -> Tensor:
        loss: Tensor = super().forward(batch, moment).loss
        return loss


def test_a_method_that_returns_something_else_is_told_what_it_must(batch: dict[str, Tensor]) -> None:
    with pytest.raises(
        RunError, match=r"^LossAlone.forward: must return Output\(loss, logs\) of interface.py, not Tensor$"
    ):
        updated(LossAlone(), batch)


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_equal_parts_are_worth_the_whole_where_samples_never_meet(batch: dict[str, Tensor], parts: int) -> None:
    whole, moved = updated(Regression(), batch)
    outcome, in_parts = updated(Regression(), batch, micro_sizes=[6 // parts] * parts)

    torch.testing.assert_close(in_parts, moved)
    torch.testing.assert_close(outcome.loss, whole.loss)
    assert outcome.logs["rows"] == 6 / parts
    assert not outcome.loss.requires_grad


def test_bf16_is_for_the_encoders_and_float32_for_the_loss_and_the_weights(batch: dict[str, Tensor]) -> None:
    model = Regression()
    outcome, moved = updated(model, batch, precision="bf16")

    assert model.seen == [torch.bfloat16]
    assert outcome.loss.dtype == moved.dtype == torch.float32
    torch.testing.assert_close(moved, updated(Regression(), batch)[1], rtol=0.05, atol=1e-3)


def test_what_is_done_to_clips_on_the_device_is_done_in_float32(batch: dict[str, Tensor]) -> None:
    """bf16 has a step of a grey level, which would mark the clips that are changed."""
    seen: list[Tensor] = []

    def augmented(arrays: dict[str, Tensor], _: None) -> dict[str, Tensor]:
        seen.append(arrays["video"][:, 0] @ arrays["video"][:, 0].T)
        return arrays

    view: Any = SimpleNamespace(augment=augmented)
    built = ModelBundle(Regression(), view, None)
    optimizer = torch.optim.SGD(built.method.parameters(), lr=0.1)
    TrainStep(built, optimizer, precision="bf16", device=CPU)(batch, MOMENT)

    assert torch.equal(seen[0], batch["video"][:, 0] @ batch["video"][:, 0].T)


def test_a_long_gradient_is_cut_to_its_longest_and_a_short_one_is_left(batch: dict[str, Tensor]) -> None:
    _, free = updated(Regression(), batch, lr=1.0)
    told, cut = updated(Regression(), batch, lr=1.0, max_grad_norm=0.25)
    _, short = updated(Regression(), batch, lr=1.0, max_grad_norm=1e6)

    assert free.norm() > 0.25
    assert cut.norm().item() == pytest.approx(0.25, rel=1e-4)
    assert told.logs["grad_norm"].item() == pytest.approx(free.norm().item(), rel=1e-4)  # before the cut
    torch.testing.assert_close(cut, free * 0.25 / free.norm(), rtol=1e-4, atol=0)
    assert torch.equal(short, free)


def test_a_loss_that_is_no_number_changes_nothing(batch: dict[str, Tensor]) -> None:
    model = Regression()
    before = model.video.weight.detach().clone()
    with pytest.raises(NotFiniteError, match=r"^loss$"):
        updated(model, {**batch, "video": batch["video"] * float("nan")})

    assert torch.equal(model.video.weight, before)


class Keeping(Regression):
    """Keeps its inputs and their places, and notes what it is told and given."""

    def __init__(self) -> None:
        super().__init__()
        self.moments: list[Moment] = []
        self.updates: list[tuple[dict[str, Tensor], Moment]] = []
        self.weights: list[Tensor] = []

    def forward(self, batch: Batch, moment: Moment) -> Output:
        self.moments.append(moment)
        assert batch.video is not None
        return super().forward(batch, moment)._replace(kept={"place": batch.place, "video": batch.video.detach()})

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        self.updates.append((dict(kept), moment))
        self.weights.append(self.video.weight.detach().clone())


@pytest.mark.parametrize("sizes", [None, [6], [2, 4], [1, 2, 3]])
def test_after_an_update_a_method_gets_what_it_kept_of_all_micro_batches_in_the_order_of_places(
    batch: dict[str, Tensor], sizes: list[int] | None
) -> None:
    model, places = Keeping(), torch.tensor([4, 2, 0, 5, 1, 3])
    moment = Moment(seed=7, step=3, epoch=1)

    updated(model, {**batch, "place": places}, micro_sizes=sizes, moment=moment)

    [(kept, then)] = model.updates
    assert kept["place"].tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(kept["video"][places], batch["video"])
    assert then == moment
    assert model.moments == [moment._replace(micro=micro) for micro in range(len(sizes or [6]))]
    assert torch.equal(model.weights[0], model.video.weight)  # it comes after the step


def test_a_method_that_keeps_nothing_is_told_of_the_update_too(batch: dict[str, Tensor]) -> None:
    model = Regression()
    told = mock.Mock()
    model.after_update = told

    updated(model, batch)

    told.assert_called_once_with({}, MOMENT)


def test_where_fp16_leaves_a_step_out_nothing_comes_after_it(batch: dict[str, Tensor]) -> None:
    """The first scales are too large for its gradients; each is half of the one before, until a step is taken."""
    model = Keeping()
    built = ModelBundle(model, as_given(), None)
    update = TrainStep(built, torch.optim.SGD(model.parameters(), lr=1e-9), precision="fp16", device=CPU)
    large = {**batch, "video": 300 * batch["video"]}

    moved = []
    for step in range(20):
        before = model.video.weight.detach().clone()
        update(large, MOMENT._replace(step=step))
        moved.append(not torch.equal(before, model.video.weight))

    first = moved.index(True)
    assert first > 0
    assert all(moved[first:])
    assert [moment.step for _, moment in model.updates] == list(range(first, 20))


def test_a_batch_of_another_split_has_no_rows_of_the_training_split(batch: dict[str, Tensor]) -> None:
    seen: list[Batch] = []

    class Seeing(Regression):
        def forward(self, batch: Batch, moment: Moment) -> Output:
            seen.append(batch)
            return super().forward(batch, moment)

    built = ModelBundle(Seeing(), as_given(), None)
    built.output({**batch, "index": torch.arange(6) + 40}, MOMENT)
    built.output(batch, MOMENT, trains=False)

    assert seen[0].row is not None
    assert seen[0].row.tolist() == [40, 41, 42, 43, 44, 45]
    assert seen[1].row is None
    assert seen[0].audio is None


@pytest.mark.parametrize(
    "kind", [r3d, c3d, r2plus1d, avid_r2plus1d, conv2d, resnet18], ids=lambda kind: kind.__name__.rpartition(".")[2]
)
def test_what_is_computed_again_has_the_same_gradients_and_statistics_to_the_bit(kind: Any) -> None:
    """16 frames, for C3D takes no fewer than 8."""

    def learnt(*, again: bool) -> tuple[nn.Module, Tensor]:
        torch.manual_seed(0)
        encoder: nn.Module = kind.build(kind.Settings(width=2))
        if again:
            checkpoint_activations(encoder)
        video_BCTHW = torch.randn(2, 3, 16, 24, 24, generator=torch.Generator().manual_seed(1))
        feature_BD: Tensor = encoder(video_BCTHW)
        feature_BD.square().sum().backward()  # type: ignore[no-untyped-call]
        return encoder, feature_BD

    (plain, features), (kept, same) = learnt(again=False), learnt(again=True)

    assert torch.equal(features, same)
    for (name, parameter), other in zip(plain.named_parameters(), kept.parameters(), strict=True):
        assert parameter.grad is not None
        assert other.grad is not None
        assert torch.equal(parameter.grad, other.grad), name
    assert plain.state_dict().keys() == kept.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, kept.state_dict()[name]), name


def test_what_is_not_kept_takes_less_memory() -> None:
    """Bytes that autograd keeps between the way there and the way back."""

    def kept(*, again: bool) -> int:
        encoder = r3d.build(r3d.Settings(width=2))
        if again:
            checkpoint_activations(encoder)
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder(torch.zeros(2, 3, 8, 32, 32))
        return sum(sizes)

    assert kept(again=True) < kept(again=False) / 2


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile looks at it itself
@pytest.mark.slow
def test_what_is_compiled_can_forget_too() -> None:
    """`--compile --activation_checkpointing`: each block is compiled by itself; the same loss, gradients and statistics."""

    def learnt(compiled: str | None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        encoder = r3d.build(r3d.Settings(width=2))
        checkpoint_activations(encoder, compiled=compiled)
        encoder(torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1))).square().sum().backward()
        gradients = {f"{name}'": each.grad for name, each in encoder.named_parameters() if each.grad is not None}
        return {**encoder.state_dict(), **gradients}

    plain, compiled = learnt(None), learnt("aot_eager")

    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, msg=name.__add__)
