"""Truths about the linear SVM, and about who may choose its strength."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kinetics_sounds.train.probes import Features, percent, svm

SVM = pytest.importorskip("sklearn.svm")


def blobs(seed: int, *, clips: int = 60, classes: int = 3, spread: float = 1.0) -> Features:
    """Noisy classes: a corner of the cube plus noise, in both modalities."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(clips) % classes
    video, audio = torch.eye(classes, 6)[label] + spread * torch.randn(2, clips, 6, generator=rng)
    return Features(video, audio, label, tuple(f"clip{row:03}" for row in range(clips)))


def judge(on: Features, fit: Features, **changes: Any) -> dict[str, float]:
    metrics: dict[str, float] = svm.evaluate(on, fit, svm.Settings(**changes))
    return metrics


def trial(fit: Any, target: Any, on: Any, right: Any) -> svm.Trial:
    """A trial of lists of features (M, K, D) and (N, K, D)."""
    return svm.Trial(torch.tensor(fit).float(), torch.tensor(target), torch.tensor(on).float(), torch.tensor(right))


class TestDecisions:
    def test_two_clips_by_hand(self) -> None:
        """At -1 and 1, weight w and no bias minimise w²/2 + 2 c (1 - w)²: w = 4 c / (1 + 4 c)."""
        values = svm.decisions(
            trial([[[-1.0]], [[1.0]]], [0, 1], [[[1.0]], [[0.5]]], [1, 1]), classes=2, c=0.5, iterations=1000
        )

        assert values.tolist() == [pytest.approx([-2 / 3, 2 / 3], abs=1e-3), pytest.approx([-1 / 3, 1 / 3], abs=1e-3)]

    def test_renderings_are_averaged(self) -> None:
        fit, target = [[[-1.0]], [[1.0]]], [0, 1]
        apart = svm.decisions(trial(fit, target, [[[4.0]], [[-2.0]]], [1, 1]), classes=2, c=1, iterations=1000)
        both = svm.decisions(trial(fit, target, [[[4.0], [-2.0]]], [1]), classes=2, c=1, iterations=1000)

        assert both.tolist() == [pytest.approx(apart.mean(dim=0).tolist())]

    def test_mean_features_have_the_mean_of_the_clips_decision_values(self) -> None:
        """So a probe of features that are averaged over clips evaluates as CrissCross does."""
        fit, clips = blobs(0), blobs(1).both().view(20, 3, 12)
        target_M = fit.label_N
        each = svm.Trial(fit.both()[:, None], target_M, clips, target_M[:20])
        mean = each._replace(on_NKD=clips.mean(dim=1, keepdim=True))

        values = [svm.decisions(one, classes=3, c=0.1, iterations=1000) for one in (each, mean)]
        assert values[0].numpy() == pytest.approx(values[1].numpy(), abs=1e-5)

    def test_each_rendering_teaches(self) -> None:
        """The same rows as clips of their own."""
        some = blobs(0)
        together = svm.Trial(
            some.video_ND.reshape(60, 2, 3), some.label_N, some.video_ND.reshape(60, 2, 3), some.label_N
        )
        single = svm.Trial(
            together.fit_MKD.reshape(120, 1, 3), some.label_N.repeat_interleave(2), together.on_NKD, some.label_N
        )

        values = [svm.decisions(each, classes=3, c=1, iterations=1000) for each in (together, single)]

        assert torch.equal(*values)

    def test_a_class_that_was_not_taught_is_never_said(self) -> None:
        taught = trial([[[-1.0]], [[1.0]]], [0, 2], [[[1.0]], [[1.0]]], [2, 1])

        values = svm.decisions(taught, classes=3, c=1, iterations=1000)

        assert values[:, 1].tolist() == [-np.inf] * 2
        assert svm.correct(taught, classes=3, c=1, iterations=1000).tolist() == [1, 0]

    def test_one_class_alone_is_all_that_is_said(self) -> None:
        taught = trial([[[-1.0]], [[1.0]]], [1, 1], [[[1.0]], [[1.0]], [[1.0]]], [1, 0, -1])

        assert svm.correct(taught, classes=2, c=1, iterations=1000).tolist() == [1, 0, 0]


class TestParts:
    def test_each_class_is_dealt_out_in_the_order_of_its_keys(self) -> None:
        label, keys = torch.tensor([0, 1, 0, 1, 0]), ("e", "d", "c", "b", "a")

        # class 0: a, c, e; class 1: b, d
        assert svm.folds(label, keys, folds=2).tolist() == [0, 1, 1, 0, 0]

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(2, 5))
    @settings(max_examples=40, deadline=None)
    def test_parts_of_a_class_differ_by_one_clip_at_most(self, labels: list[int], folds: int) -> None:
        label_M = torch.tensor(labels)

        part_M = svm.folds(label_M, [f"{row:02}" for row in range(len(labels))], folds=folds)

        for label in set(labels):
            sizes = [int(((label_M == label) & (part_M == part)).sum()) for part in range(folds)]
            assert max(sizes) - min(sizes) <= 1
            assert sum(sizes) == labels.count(label)

    def test_what_is_held_out_does_not_teach(self) -> None:
        row_M11 = torch.arange(5.0)[:, None, None]

        trials = list(svm.held_out(row_M11, torch.arange(5), torch.tensor([0, 1, 0, 2, 1])))

        assert [each.right_N.tolist() for each in trials] == [[0, 2], [1, 4], [3]]
        assert [each.target_M.tolist() for each in trials] == [[1, 3, 4], [0, 2, 3], [0, 1, 2, 4]]
        for each in trials:
            assert each.fit_MKD.flatten().tolist() == each.target_M.tolist()
            assert each.on_NKD.flatten().tolist() == each.right_N.tolist()

    def test_a_part_that_is_all_there_is_is_left_out(self) -> None:
        assert list(svm.held_out(torch.zeros(2, 1, 1), torch.arange(2), torch.zeros(2))) == []


class TestStrength:
    def chosen(self, part_M: Tensor, *, select: Any, cs: tuple[float, ...] = (1e-3, 1.0)) -> float:
        return float(svm.select_C(self.TRIAL, part_M, classes=2, settings=svm.Settings(cs=cs, select=select)))

    # Class 1 is rare: a weak machine only learns its size from the bias and says 0, a strong one finds it at 3 and above.
    FIT = (0.0, 1.0, 0.2, 0.8, 0.4, 0.6, 3.0, 3.2)
    TRIAL = trial([[[x]] for x in FIT], [0] * 6 + [1] * 2, [[[0.5]], [[3.1]]], [0, 0])
    PARTS = torch.arange(8) % 2

    def test_the_fitted_clips_choose_what_tells_them_apart(self) -> None:
        assert self.chosen(self.PARTS, select="fit") == 1.0

    def test_the_judged_clips_choose_what_suits_them_where_they_may(self) -> None:
        """Both are said to be of class 0, which only the weak machine believes."""
        assert self.chosen(self.PARTS, select="test") == 1e-3

    def test_the_smallest_of_equals(self) -> None:
        assert self.chosen(self.PARTS, select="fit", cs=(100.0, 1.0, 10.0)) == 1.0

    def test_one_strength_needs_no_choice_and_no_trial(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(svm, "correct")

        assert self.chosen(self.PARTS, select="fit", cs=(7.0,)) == 7


class TestProbe:
    @pytest.mark.parametrize("c", [1e-3, 1.0])
    def test_agrees_with_scikit_learn_on_each_side(self, c: float) -> None:
        on, fit = blobs(2, clips=300), blobs(3, clips=90)
        metrics = judge(on, fit, cs=(c,))

        for (prefix, on_ND), (_, fit_MD) in zip(on.sides(), fit.sides(), strict=True):
            oracle = SVM.LinearSVC(C=c, dual=True, max_iter=100_000, random_state=0).fit(fit_MD, fit.label_N)
            assert metrics[f"{prefix}top1"] == pytest.approx(100 * oracle.score(on_ND, on.label_N), abs=1)
            assert 40 < metrics[f"{prefix}top1"] < 100

    def test_labels_may_be_any_numbers(self) -> None:
        on, fit = blobs(0), blobs(1)
        name = torch.tensor([70, -3, 12])
        named = [Features(each.video_ND, each.audio_ND, name[each.label_N], each.keys) for each in (on, fit)]

        assert judge(*named, select="test") == pytest.approx(judge(on, fit, select="test"))

    def test_by_default_the_judged_clips_choose_nothing(self) -> None:
        """Other labels for the judged clips leave every C as it was."""
        on, fit = blobs(0, spread=2.0), blobs(1, spread=2.0)
        turned = Features(on.video_ND, on.audio_ND, (on.label_N + 1) % 3, on.keys)

        honest, other = judge(on, fit), judge(turned, fit)

        assert [honest[name] for name in ("c", "video_c", "audio_c")] == [
            other[name] for name in ("c", "video_c", "audio_c")
        ]
        assert honest["selected_on_test"] == 0

    def test_the_papers_way_is_marked_and_never_scores_less(self) -> None:
        on, fit = blobs(0, spread=2.0), blobs(1, spread=2.0)

        honest, optimistic = judge(on, fit), judge(on, fit, select="test")

        assert optimistic["selected_on_test"] == 1
        for side in ("", "video_", "audio_"):
            assert optimistic[f"{side}top1"] >= honest[f"{side}top1"]
            each = [judge(on, fit, cs=(c,))[f"{side}top1"] for c in svm.Settings().cs]
            assert optimistic[f"{side}top1"] == max(each)
        assert optimistic != {**honest, "selected_on_test": 1.0}

    def test_the_c_of_each_side_is_the_one_that_was_used(self) -> None:
        on, fit = blobs(4, spread=2.0), blobs(5, spread=2.0)
        chosen = judge(on, fit, select="test")

        for side in ("", "video_", "audio_"):
            assert judge(on, fit, cs=(chosen[f"{side}c"],))[f"{side}top1"] == chosen[f"{side}top1"]

    def test_a_class_absent_from_the_fitted_split_is_missed_however_c_is_chosen(self) -> None:
        on, fit = blobs(0), blobs(1)
        foreign = Features(on.video_ND, on.audio_ND, on.label_N + 100, on.keys)

        assert judge(foreign, fit, select="test")["top1"] == judge(foreign, fit)["top1"] == 0

    def test_clips_of_a_foreign_class_have_no_say_in_the_choice(self) -> None:
        on, fit, foreign = blobs(8, spread=2.0), blobs(9, spread=2.0), blobs(10, spread=2.0, clips=200)
        more = Features(
            torch.cat([on.video_ND, foreign.video_ND]),
            torch.cat([on.audio_ND, foreign.audio_ND]),
            torch.cat([on.label_N, foreign.label_N + 100]),
            on.keys + tuple(f"foreign {key}" for key in foreign.keys),
        )

        alone, beside = judge(on, fit, select="test"), judge(more, fit, select="test")

        assert [alone[name] for name in ("c", "video_c", "audio_c")] == [
            beside[name] for name in ("c", "video_c", "audio_c")
        ]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"cs": ()}, r"--svm\.cs \[\]: at least one is needed"),
            ({"cs": (1.0, 0.0)}, r"--svm\.cs \[1\.0, 0\.0\]: .* each must be more than 0"),
            ({"cs": (1.0, np.nan)}, r"--svm\.cs \[1\.0, nan\]"),
            ({"folds": 1}, r"--svm\.folds 1: must be at least 2"),
            ({"iterations": 0}, r"--svm\.iterations 0: must be at least 1"),
        ],
    )
    def test_nonsense_is_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            svm.Settings(**changes)

    def test_one_clip_a_class_can_hold_nothing_out_to_choose_c(self) -> None:
        one = blobs(0, clips=3)

        with pytest.raises(ValueError, match=r"give one C with --svm\.cs, or .* --svm\.select test"):
            judge(blobs(1), one)
        assert judge(blobs(1), one, cs=(0.5,))["c"] == 0.5
        assert judge(blobs(1), one, select="test")["selected_on_test"] == 1

    def test_accuracy_is_the_share_that_is_told_right(self) -> None:
        on, fit = blobs(6), blobs(7)
        whole = svm.Trial(fit.video_ND[:, None], fit.label_N, on.video_ND[:, None], on.label_N)

        hit_N = svm.correct(whole, classes=3, c=0.1, iterations=1000)

        assert judge(on, fit, cs=(0.1,))["video_top1"] == percent(hit_N)
