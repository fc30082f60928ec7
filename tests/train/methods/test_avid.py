"""AVID: which rows a feature is compared with, what the first batch fixes, and what follows an update."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from kinetics_sounds.train.interface import Batch, Data, Moment
from kinetics_sounds.train.losses.nce import nce_loss
from kinetics_sounds.train.methods import avid

SMALL = {"mode": "joint", "dim": 8, "hidden": 8, "negatives": 6}
TINY = {"mode": "cross"}
DATA = Data(classes=2, samples=20, batch=8)
FIRST = Moment(seed=0, step=0, epoch=0)


class Flat(nn.Module):
    """All pixels in a row."""

    dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, given: Tensor) -> Tensor:
        features: Tensor = self.layer(given.flatten(1))
        return features


def method(data: Data = DATA, **settings: Any) -> avid.Avid:
    torch.manual_seed(0)
    chosen = avid.Settings(**{"dim": 4, "hidden": 5, "negatives": 3, **settings})
    return avid.build(chosen, video=Flat(), audio=Flat(), data=data)


def batch(rows: Tensor | None = None, places: Tensor | None = None) -> Batch:
    rows = torch.tensor([3, 19, 0, 7]) if rows is None else rows
    generator = torch.Generator().manual_seed(1)
    whole = [torch.randn(20, 1, 6, generator=generator) for _ in range(2)]
    return Batch(
        video=whole[0][rows],
        audio=whole[1][rows],
        label=torch.zeros(len(rows), dtype=torch.int64),
        place=torch.arange(len(rows)) if places is None else places,
        row=rows,
    )


@pytest.mark.parametrize("mode", ["cross", "self", "joint"])
def test_the_loss_is_that_of_the_pairs_of_its_mode(mode: Any) -> None:
    """With the banks' rows written out: each feature against its own row and the negatives' of the other bank, or its own."""
    made, given = method(mode=mode, temperature=0.5), batch()
    output = made(given, FIRST)
    rows, noise_BK = given.row, made.negatives(given, FIRST)
    assert rows is not None
    expected = torch.zeros(4)
    for one, other in avid.PAIRS[mode]:
        feature_BD, bank_SD = output.kept[one], made.rows(other)
        own_B = (feature_BD * bank_SD[rows]).sum(dim=1) / 0.5
        negative_BK = torch.einsum("bd,bkd->bk", feature_BD, bank_SD[noise_BK]) / 0.5
        expected += nce_loss(own_B, negative_BK, partition=made.memory().partition)

    torch.testing.assert_close(output.loss, expected.mean())


def test_the_first_micro_batch_fixes_the_partition() -> None:
    made = method()
    assert made.memory().partition.item() == 0
    made(batch(), FIRST)
    first = made.memory().partition.item()
    made(batch(torch.tensor([1, 2, 5, 6])), FIRST._replace(micro=1))
    made(batch(torch.tensor([8, 9, 10, 11])), FIRST._replace(step=1))

    assert first > 0
    assert made.memory().partition.item() == first


def test_in_evaluation_mode_no_partition_is_estimated() -> None:
    made = method().eval()
    made(batch(), FIRST)

    assert made.memory().partition.item() == 0


def test_a_partition_that_was_taken_over_stays() -> None:
    made = method()
    made.memory().partition.fill_(2.2)
    made(batch(), FIRST)

    assert made.memory().partition.item() == pytest.approx(2.2)


def test_negatives_are_other_samples_and_do_not_depend_on_who_draws_them() -> None:
    made = method(negatives=500)
    rows = torch.arange(8)
    whole_BK = made.negatives(batch(rows), FIRST)
    part_BK = made.negatives(batch(rows[5:], torch.arange(5, 8)), FIRST._replace(micro=1))

    assert not (whole_BK == rows[:, None]).any()
    assert sorted(whole_BK[0].unique().tolist()) == [*range(1, 20)]
    assert torch.equal(whole_BK[5:], part_BK)
    assert not torch.equal(whole_BK, made.negatives(batch(rows), FIRST._replace(step=1)))


def test_negatives_are_uniform_over_all_other_rows() -> None:
    """By a chi-square test over the 19 others of 20."""
    made = method(negatives=20_000)
    negatives_BK = made.negatives(batch(torch.arange(8)), FIRST)
    for row in range(8):
        counts = torch.bincount(negatives_BK[row], minlength=20).tolist()
        assert counts.pop(row) == 0
        assert stats.chisquare(counts).pvalue > 1e-4


def test_the_partition_of_a_new_bank_is_what_theory_says() -> None:
    """For unit vectors that point anywhere, 0F1(; 64; 1 / (4 * 0.07^2)) = 2.20865 of 128 channels and temperature 0.07."""
    made = avid.build(avid.Settings(), video=Flat(), audio=Flat(), data=DATA._replace(samples=50_000))
    feature_BD = F.normalize(torch.randn(512, 128, generator=torch.Generator().manual_seed(1)), dim=1)
    for name in ("video", "audio"):
        scores = [(part_BD @ made.rows(name).T / 0.07).exp().double().mean() for part_BD in torch.split(feature_BD, 64)]
        assert torch.stack(scores).mean().item() == pytest.approx(2.2087, abs=0.002)


def test_after_an_update_the_rows_that_were_seen_have_moved() -> None:
    made, given = method(bank_momentum=0.0), batch()
    kept = made(given, FIRST).kept
    before = made.rows("video").clone()
    made.after_update(kept, FIRST)
    rows = given.row
    assert rows is not None
    others = [row for row in range(20) if row not in rows.tolist()]

    torch.testing.assert_close(made.rows("video")[rows], kept["video"])
    torch.testing.assert_close(made.rows("audio")[rows], kept["audio"])
    assert torch.equal(made.rows("video")[others], before[others])


def test_another_split_has_no_rows() -> None:
    assert not avid.Avid.validates
    with pytest.raises(ValueError, match="rows of the training split"):
        method()(batch()._replace(row=None), FIRST)


def test_a_model_for_evaluation_has_no_banks() -> None:
    made = method(DATA._replace(samples=0))

    assert {name for name in method().state_dict() if not name.startswith("banks.")} == set(made.state_dict())


@pytest.mark.parametrize("wrong", [{"negatives": 0}, {"dim": 0}, {"temperature": 0.0}, {"bank_momentum": -0.1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="dim, hidden and negatives must be at least 1"):
        avid.Settings(**wrong)


def test_one_sample_cannot_be_told_from_others() -> None:
    with pytest.raises(ValueError, match="the split has a single sample"):
        method(DATA._replace(samples=1))


def test_each_head_has_the_papers_size() -> None:
    """512 - 512 - 512 - 128: 590,976 parameters."""

    class Wide(Flat):
        dim = 512

    made = avid.build(avid.Settings(negatives=3), video=Wide(), audio=Wide(), data=DATA)

    assert [sum(each.numel() for each in head.parameters()) for head in made.heads.values()] == [590_976, 590_976]


def test_more_scores_than_memory_is_for_are_refused() -> None:
    with pytest.raises(
        ValueError, match="8 samples a step with 1000000000 negatives of 4 channels each are more than 69 GB"
    ):
        method(negatives=10**9)


def test_another_run_hands_on_no_rows_of_its_own_split() -> None:
    assert not [
        name
        for name in method().state_dict()
        if name.startswith(("banks.", "partition")) and name.startswith(avid.Avid.INIT)
    ]
