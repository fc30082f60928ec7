"""IIC: what a feature is compared with, the clip without its order in time, and what follows an update."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.train.config.settings import read_settings
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.interface import Batch, Data, Moment
from kinetics_sounds.train.methods import iic

from .flat import Flat

SMALL = {"mode": "joint", "negatives": 6}
TINY = {"negatives": 4, "intra_negative": "shuffle"}
DATA = Data(classes=2, samples=20, steps=10, batch=8)
NOW = Moment(seed=0, step=0, epoch=0)


class First(nn.Module):
    """The first frame's six numbers, through one layer."""

    dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, given_BCTHW: Tensor) -> Tensor:
        features: Tensor = self.layer(given_BCTHW[:, :, 0].flatten(1))
        return features


def method(data: Data = DATA, **settings: Any) -> iic.Iic:
    torch.manual_seed(0)
    return iic.build(iic.Settings(**{"negatives": 3, **settings}), video=First(), audio=Flat(), data=data)


def batch(rows: tuple[int, ...] = (3, 19, 0, 7), places: tuple[int, ...] = (0, 1, 2, 3)) -> Batch:
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(20, 1, 6, 8, 1, 1, generator=generator)
    audio = torch.randn(20, 1, 6, generator=generator)
    row = torch.tensor(rows)
    return Batch(video=video[row], audio=audio[row], label=row, place=torch.tensor(places), row=row)


@pytest.mark.parametrize("mode", ["cross", "intra"])
def test_the_loss_is_a_softmax_over_rows_of_a_bank_and_of_the_third(mode: Any) -> None:
    made, given = method(mode=mode, temperature=0.5), batch()
    output = made(given, NOW)
    drawn = made.drawn(given, NOW)
    expected = torch.zeros(())
    for one, other in iic.PAIRS[mode]:
        for anchor, rows in zip(output.kept[one], drawn, strict=True):
            bank = made.banks[other].rows_SD[rows]
            if (one, other) != ("audio", "audio"):  # whose third bank would be of destroyed video
                bank = torch.cat([bank, made.banks["intra"].rows_SD[rows]])
            expected += -torch.log_softmax(bank @ anchor / 0.5, dim=0)[0] / 4

    assert torch.equal(drawn[:, 0], given.row)
    assert drawn.shape == (4, 4)
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize(("intra", "expected"), [("repeat", math.log(2050)), ("none", math.log(1025))])
def test_with_all_vectors_equal_it_counts_its_rows(intra: Any, expected: float) -> None:
    """A direction: log(2 K + 2) with the third bank, 7.6255951 for K = 1,024, and log(K + 1) without, 6.9324479."""
    made = method(negatives=1024, intra_negative=intra)
    for bank in made.banks.values():
        bank.rows_SD.copy_(F.normalize(torch.ones_like(bank.rows_SD), dim=1))

    assert made(batch(), NOW).loss.item() == pytest.approx(2 * expected, rel=1e-5)


def test_a_frame_that_is_repeated_comes_from_the_clip_and_a_still_clip_stays() -> None:
    made, given = method(), batch()
    assert given.video is not None
    clip = given.video[:, 0]
    found = made.destroyed(clip, given.place, NOW)

    for sample, original in zip(found, clip, strict=True):
        assert torch.equal(sample, sample[:, :1].expand_as(sample))
        assert any(torch.equal(sample[:, 0], original[:, frame]) for frame in range(8))
    still = clip[:, :, :1].expand_as(clip)
    assert torch.equal(made.destroyed(still, given.place, NOW), still)


def test_two_of_four_chunks_are_swapped_and_no_frame_is_lost() -> None:
    swaps = list(itertools.combinations(range(4), 2))
    orders = iic.swapped_orders(8, swaps)

    assert orders[0] == [2, 3, 0, 1, 4, 5, 6, 7]
    assert orders[-1] == [0, 1, 2, 3, 6, 7, 4, 5]
    assert all(sorted(order) == list(range(8)) and order != list(range(8)) for order in orders)


def test_the_shuffled_clip_is_one_of_these_orders() -> None:
    made, given = method(intra_negative="shuffle"), batch()
    assert given.video is not None
    clip = given.video[:, 0]
    orders = iic.swapped_orders(8, list(itertools.combinations(range(4), 2)))
    for sample, original in zip(made.destroyed(clip, given.place, NOW), clip, strict=True):
        assert any(torch.equal(sample, original[:, order]) for order in orders)


def test_what_is_drawn_is_of_the_place_in_the_step_and_not_of_the_rank() -> None:
    """The last two samples alone, as a second rank has them, draw what they draw in the whole batch."""
    made, whole = method(), batch()
    part = batch(rows=(0, 7), places=(2, 3))
    assert part.video is not None

    assert torch.equal(made.drawn(part, NOW), made.drawn(whole, NOW)[2:])
    assert whole.video is not None
    clips = whole.video[:, 0]
    assert torch.equal(made.destroyed(part.video[:, 0], part.place, NOW), made.destroyed(clips, whole.place, NOW)[2:])


@pytest.mark.parametrize("normalize", [True, False])
def test_after_an_update_the_rows_that_were_seen_have_followed_and_are_unit(normalize: bool) -> None:
    """A row follows a feature that is not normalised the more the longer it is."""
    made, given = method(bank_momentum=0.25, normalize_anchor=normalize), batch()
    assert given.row is not None
    before = {name: bank.rows_SD.clone() for name, bank in made.banks.items()}
    kept = made(given, NOW).kept
    made.after_update(kept, NOW)

    assert given.audio is not None
    raw = made.audio(given.audio[:, 0]).detach()
    torch.testing.assert_close(kept["audio"], F.normalize(raw, dim=1) if normalize else raw)
    for name, bank in made.banks.items():
        expected = F.normalize(0.25 * before[name][given.row] + 0.75 * kept[name], dim=1)
        torch.testing.assert_close(bank.rows_SD[given.row], expected)
        others = [row for row in range(20) if row not in given.row.tolist()]
        assert torch.equal(bank.rows_SD[others], before[name][others])


@pytest.mark.parametrize(("how", "frames"), [("repeat", 1), ("shuffle", 3)])
def test_clips_whose_order_cannot_be_destroyed_are_refused(how: Any, frames: int) -> None:
    made, given = method(intra_negative=how), batch()
    assert given.video is not None
    with pytest.raises(
        ValueError, match=f"intra_negative {how} needs clips of {frames + 1} frames, and these have {frames}"
    ):
        made.destroyed(given.video[:, 0, :, :frames], given.place, NOW)
    made.destroyed(given.video[:, 0, :, : frames + 1], given.place, NOW)


def test_a_run_whose_view_gives_too_few_frames_is_refused(small: Callable[..., list[str]]) -> None:
    words = ("--method=iic", "--iic.intra_negative=shuffle", "--clip_and_mel.frames=2")
    parsed = read_settings(small(Path("none"), *words))

    with pytest.raises(
        SettingsError, match=r"--iic: intra_negative shuffle needs clips of 4 frames, .* --iic\.intra_negative none"
    ):
        build.build_model(parsed, DATA)
    build.build_model(parsed, DATA._replace(samples=0))  # to be judged


def test_banks_begin_within_the_bounds_of_cmc() -> None:
    """Of 6 channels each between -sqrt(3 / 6) and that; for 512 the bound is 1 / sqrt(512 / 3)."""
    rows = method().banks["intra"].rows_SD

    assert rows.abs().max().item() <= math.sqrt(0.5)
    assert rows.abs().max().item() > 0.6


def test_without_normalisation_the_length_of_a_feature_counts() -> None:
    made, given = method(normalize_anchor=False), batch()
    short = made(given, NOW).loss.item()
    with torch.no_grad():
        for encoder in (made.video, made.audio):
            encoder.layer.weight *= 3
            encoder.layer.bias *= 3

    assert made(given, NOW).loss.item() != pytest.approx(short, rel=1e-3)
    other = method()
    assert other(given, NOW).loss.item() != pytest.approx(short, rel=1e-3)


def test_a_model_for_evaluation_has_no_bank() -> None:
    assert not [name for name in method(DATA._replace(samples=0)).state_dict() if name.startswith("banks.")]


def test_rows_of_another_split_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of the training split"):
        method()(batch()._replace(row=None), NOW)


@pytest.mark.parametrize("wrong", [{"negatives": 0}, {"temperature": 0.0}, {"bank_momentum": 2.0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="iic: negatives must be at least 1"):
        iic.Settings(**wrong)


def test_more_scores_than_anyone_has_memory_for_are_refused() -> None:
    with pytest.raises(ValueError, match=r"give a smaller --iic\.negatives"):
        method(DATA._replace(batch=1024), negatives=2**20)
