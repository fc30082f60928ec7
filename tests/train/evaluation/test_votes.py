"""Clips vote: each is what the model says of it, and the sums can be done by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kinetics_sounds.errors import RunError
from kinetics_sounds.stream import open_split, sample
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.distributed.process_group import World
from kinetics_sounds.train.evaluation import split_pass, votes
from kinetics_sounds.train.evaluation.encoders import load

CPU = torch.device("cpu")
LOADING = Loading(workers=0, device=CPU)


def test_a_clips_logits_are_what_the_model_says_of_it_and_the_whole_sound(classified: Path, shards: Path) -> None:
    encoders, split = load(classified), open_split(shards, "test")

    logit_NKC, label_N = votes.clip_logits(encoders, split, clips=3, batch=4, loading=LOADING)

    assert logit_NKC.shape == (6, 3, 2)
    assert label_N.tolist() == [0, 1, 0, 1, 0, 1]
    for number, logit_KC in enumerate(logit_NKC):
        with sample(split, number) as each, torch.no_grad():
            inputs = encoders.preprocess(each, clips=3)
            audio_KD = encoders.audio(inputs["audio"]).expand(3, -1)
            said_KC = votes.classifier_of(encoders).logits(encoders.video(inputs["video"]), audio_KD)
        torch.testing.assert_close(logit_KC, said_KC, rtol=1e-5, atol=1e-6)
    assert len({tuple(logit_KC.flatten().tolist()) for logit_KC in logit_NKC}) == 6  # each video has its own


def test_two_ranks_share_the_videos(classified: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another here: what the first sees and what the second sees are all of it."""
    encoders, split = load(classified), open_split(shards, "test")
    whole_NKC, _ = votes.clip_logits(encoders, split, clips=1, batch=2, loading=LOADING)
    parts: list[torch.Tensor] = []

    def kept(own_NKC: torch.Tensor) -> torch.Tensor:
        parts.append(own_NKC)
        return own_NKC

    monkeypatch.setattr(split_pass.gather, "gather", kept)

    for rank in range(2):
        votes.clip_logits(encoders, split, clips=1, batch=2, loading=LOADING, world=World(rank, 2, CPU))

    assert [len(part) for part in parts] == [3, 3]
    torch.testing.assert_close(torch.cat(parts), whole_NKC, rtol=1e-5, atol=1e-6)


def test_a_run_without_a_classifier_has_nobody_to_vote(finished: Path, shards: Path) -> None:
    with pytest.raises(RunError, match=r"its method \(Avcl\) has no classifier, so clips cannot vote"):
        votes.clip_logits(load(finished), open_split(shards, "test"), clips=1, batch=2, loading=LOADING)


def test_logits_that_are_no_numbers_are_refused(classified: Path, shards: Path) -> None:
    encoders = load(classified)
    with torch.no_grad():
        next(encoders.method.parameters()).fill_(torch.nan)
    with pytest.raises(RunError, match="scores are not finite; lower"):
        votes.clip_logits(encoders, open_split(shards, "test"), clips=1, batch=4, loading=LOADING)


SURE = torch.tensor([[[9.0, 0.0], [0.0, 3.0], [0.0, 3.0]]])
"""One video, three clips, two classes."""


@pytest.mark.parametrize(("how", "winner"), [("logit", 0), ("prob", 1)])
def test_a_clip_that_is_very_sure_wins_by_logits_and_loses_by_probabilities(how: Any, winner: int) -> None:
    """Means of logits 3 against 2; of probabilities (1.00 + 0.05 + 0.05) / 3 = 0.37 against 0.63."""
    score_NC = votes.vote(SURE, how)

    assert score_NC.shape == (1, 2)
    assert score_NC.argmax().item() == winner
    expected = [[3.0, 2.0]] if how == "logit" else [[0.3649, 0.6351]]
    torch.testing.assert_close(score_NC, torch.tensor(expected), rtol=0, atol=1e-4)


def test_accuracies_of_votes_and_of_single_clips() -> None:
    """Class 0 is right of both videos. The first has one clip of three right and wins by it; the second has all three right."""
    logit_NKC = torch.cat([SURE, torch.tensor([[[1.0, 0.0]] * 3])])
    label_N = torch.tensor([0, 0])

    voted = votes.accuracies(votes.vote(logit_NKC, "logit"), label_N, fit_M=torch.tensor([0, 1]))
    single = votes.clip_accuracies(logit_NKC, label_N)

    assert (voted["top1"], voted["top5"], voted["top1_chance"], voted["top5_chance"]) == (100, 100, 50, 100)
    assert votes.accuracies(votes.vote(logit_NKC, "prob"), label_N, fit_M=label_N)["top1"] == 50
    assert single["clip_top1"] == pytest.approx(100 * (1 / 3 + 1) / 2)  # 4 of 6 clips
    assert (single["clip_top1_low"], single["clip_top1_high"]) == pytest.approx((100 / 3, 100))  # either video alone
    assert single["clip_top5"] == 100
