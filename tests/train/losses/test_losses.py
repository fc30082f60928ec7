"""Truths about AVCL's two losses. Suffixes: N samples, D channels."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from info_nce import info_nce
from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss, SupConLoss
from torch import Tensor, nn

from kinetics_sounds.train.losses import dead_share
from kinetics_sounds.train.losses.cgra import cgra_loss, cross_correlation
from kinetics_sounds.train.losses.selfcl import selfcl_loss

seeds = st.integers(0, 2**31)
few = settings(max_examples=20, deadline=None)


def pair(seed: int, samples: int = 8, dim: int = 5) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    video_ND = torch.randn(samples, dim, generator=rng, dtype=torch.float64)
    return video_ND, torch.randn(samples, dim, generator=rng, dtype=torch.float64)


def orthonormal(dim: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    turn_DD: Tensor = torch.linalg.qr(torch.randn(dim, dim, generator=rng, dtype=torch.float64)).Q
    return turn_DD


class TestCgraValues:
    def test_agreeing_modalities_with_uncorrelated_channels_cost_nothing(self) -> None:
        video_ND = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])

        assert cgra_loss(video_ND, video_ND) == 0
        assert cgra_loss(video_ND, video_ND, center=False) == 0

    def test_opposite_modalities_cost_four_a_channel(self) -> None:
        video_ND = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])

        assert cgra_loss(video_ND, -video_ND) == 4 * 2

    def test_equal_channels_cost_the_weight_for_every_ordered_pair(self) -> None:
        ones_ND = torch.ones(16, 512)

        loss = cgra_loss(ones_ND, ones_ND, center=False)

        assert loss.item() == pytest.approx(0.005 * 512 * 511)  # 1308.16
        assert loss.item() == pytest.approx(1308.16)

    def test_channels_that_live_in_one_sample_each_cost_their_thirty_one_twins(self) -> None:
        one_hot_ND = torch.eye(16).repeat(1, 32)

        assert cgra_loss(one_hot_ND, one_hot_ND, center=False).item() == pytest.approx(0.005 * 512 * 31)  # 79.36

    def test_sixteen_samples_cannot_decorrelate_512_channels(self) -> None:
        video_ND, _ = pair(0, 16, 512)

        assert cgra_loss(video_ND, video_ND) >= 0.005 * (512**2 / 15 - 512) - 1e-6  # 84.8
        assert cgra_loss(video_ND, video_ND, center=False) >= 79.36 - 1e-6

    @pytest.mark.parametrize(
        ("center", "freedom", "diagonal", "rest"), [(False, 16, 544, 81.76), (True, 15, 546.13, 87.21)]
    )
    def test_independent_gaussians_cost_what_theory_says(
        self, center: bool, freedom: int, diagonal: float, rest: float
    ) -> None:
        draws = [pair(seed, 16, 512) for seed in range(20)]
        on = sum(cgra_loss(*draw, center=center, off_diagonal_weight=0).item() for draw in draws) / 20
        both = sum(cgra_loss(*draw, center=center).item() for draw in draws) / 20

        assert diagonal == pytest.approx(512 * (1 + 1 / freedom), rel=1e-4)
        assert rest == pytest.approx(0.005 * 512 * 511 / freedom, rel=1e-4)
        assert on == pytest.approx(diagonal, rel=0.03)
        assert both - on == pytest.approx(rest, rel=0.03)

    @pytest.mark.parametrize("center", [False, True])
    def test_a_dead_network_costs_one_a_channel(self, center: bool) -> None:
        dead_ND = torch.zeros(16, 512)

        assert cgra_loss(dead_ND, dead_ND, center=center) == 512

    def test_a_channel_that_never_changes_is_dead_once_centred(self) -> None:
        constant_ND = torch.full((16, 512), 0.3)  # 0.3 has no exact float: its mean is off by rounding

        assert cgra_loss(constant_ND, constant_ND) == 512

    def test_centred_is_barlow_twins_with_a_batch_norm_that_does_not_learn(self) -> None:
        video_ND, audio_ND = pair(1, 16, 32)
        norm = nn.BatchNorm1d(32, eps=1e-300, affine=False, dtype=torch.float64)
        corr_DD = norm(video_ND).T @ norm(audio_ND) / 16
        weight_DD = torch.full((32, 32), 0.005).fill_diagonal_(1)

        torch.testing.assert_close(cross_correlation(video_ND, audio_ND), corr_DD)
        torch.testing.assert_close(
            cgra_loss(video_ND, audio_ND), ((corr_DD - torch.eye(32, dtype=torch.float64)) ** 2 * weight_DD).sum()
        )

    def test_uncentred_is_equation_five_written_out(self) -> None:
        video_ND, audio_ND = pair(2)
        i, j = 3, 1
        dot = sum(video_ND[b, i] * audio_ND[b, j] for b in range(8))

        corr_DD = cross_correlation(video_ND, audio_ND, center=False)

        assert corr_DD[i, j] == pytest.approx(float(dot / video_ND[:, i].norm() / audio_ND[:, j].norm()))


class TestCgraInvariances:
    @given(seeds, st.booleans())
    @few
    def test_scale_of_any_channel_does_not_matter(self, seed: int, center: bool) -> None:
        video_ND, audio_ND = pair(seed)
        scale_D, other_D = pair(seed + 1, 2)[0].exp()

        torch.testing.assert_close(
            cgra_loss(video_ND * scale_D, audio_ND * other_D, center=center),
            cgra_loss(video_ND, audio_ND, center=center),
        )

    @given(seeds)
    @few
    def test_shift_of_any_channel_does_not_matter_once_centred(self, seed: int) -> None:
        video_ND, audio_ND = pair(seed)
        shift_D, other_D = pair(seed + 1, 2)[0]

        torch.testing.assert_close(cgra_loss(video_ND + shift_D, audio_ND + other_D), cgra_loss(video_ND, audio_ND))

    @given(seeds, st.booleans())
    @few
    def test_order_of_samples_and_of_channels_does_not_matter(self, seed: int, center: bool) -> None:
        video_ND, audio_ND = pair(seed)
        rng = torch.Generator().manual_seed(seed)
        row_N, col_D = torch.randperm(8, generator=rng)[:, None], torch.randperm(5, generator=rng)

        torch.testing.assert_close(
            cgra_loss(video_ND[row_N, col_D], audio_ND[row_N, col_D], center=center),
            cgra_loss(video_ND, audio_ND, center=center),
        )

    def test_rotation_does_matter(self) -> None:
        video_ND, audio_ND = pair(0)
        turn_DD = orthonormal(5)

        assert not torch.isclose(
            cgra_loss(video_ND @ turn_DD, audio_ND @ turn_DD), cgra_loss(video_ND, audio_ND), rtol=0.01
        )


class TestSelfclValues:
    @pytest.mark.parametrize(("samples", "value"), [(2, 4.394449), (16, 109.887591)])
    @pytest.mark.parametrize("feature", [0.0, 1.0])
    def test_collapse_costs_a_uniform_guess_for_each_feature(self, samples: int, value: float, feature: float) -> None:
        same_ND = torch.full((samples, 8), feature, dtype=torch.float64)

        assert selfcl_loss(same_ND, same_ND, temperature=0.07).item() == pytest.approx(value, abs=1e-6)
        assert value == pytest.approx(2 * samples * math.log(2 * samples - 1), abs=1e-6)

    @pytest.mark.parametrize(("temperature", "value"), [(0.07, 5.9987e-4), (0.1, 0.0435543), (0.5, 51.884097)])
    def test_orthonormal_samples_that_agree(self, temperature: float, value: float) -> None:
        video_ND = orthonormal(16)

        loss = selfcl_loss(video_ND, video_ND, temperature=temperature).item()

        assert loss == pytest.approx(value, rel=1e-4)
        assert loss == pytest.approx(32 * math.log1p(30 * math.exp(-1 / temperature)))

    @pytest.mark.parametrize(("temperature", "value"), [(0.07, 2.31446e-4), (0.5, 48.506955)])
    def test_samples_on_a_regular_simplex_that_agree(self, temperature: float, value: float) -> None:
        video_ND = torch.eye(16, dtype=torch.float64) - 1 / 16

        assert selfcl_loss(video_ND, video_ND, temperature=temperature).item() == pytest.approx(value, rel=1e-5)

    def test_is_equations_seven_to_ten_written_out(self) -> None:
        video_ND, audio_ND = pair(3, 4)

        def half(own: Tensor, other: Tensor) -> float:
            def h(x: Tensor, y: Tensor) -> float:
                return math.exp(F.cosine_similarity(x, y, dim=0).item() / 0.2)

            return -sum(
                math.log(
                    h(own[i], other[i])
                    / (sum(h(own[i], other[j]) for j in range(4)) + sum(h(own[i], own[j]) for j in range(4) if j != i))
                )
                for i in range(4)
            )

        loss = selfcl_loss(video_ND, audio_ND, temperature=0.2)

        assert loss.item() == pytest.approx(half(video_ND, audio_ND) + half(audio_ND, video_ND))

    @pytest.mark.parametrize("oracle", [NTXentLoss, SupConLoss])
    def test_is_2n_times_the_nt_xent_of_pytorch_metric_learning(self, oracle: Callable[..., nn.Module]) -> None:
        video_ND, audio_ND = pair(4, 16, 32)

        expected = 2 * 16 * SelfSupervisedLoss(oracle(temperature=0.3))(video_ND, audio_ND)

        torch.testing.assert_close(selfcl_loss(video_ND, audio_ND, temperature=0.3), expected)

    def test_is_info_nce_with_the_other_samples_of_both_modalities_as_negatives(self) -> None:
        video_ND, audio_ND = pair(5, 6)
        others = torch.tensor([[j for j in range(6) if j != i] for i in range(6)])
        negative_NKD = torch.cat([video_ND[others], audio_ND[others]], dim=1)

        expected = sum(
            info_nce(query, key, negative_NKD, temperature=0.3, reduction="sum", negative_mode="paired")
            for query, key in ((video_ND, audio_ND), (audio_ND, video_ND))
        )

        torch.testing.assert_close(selfcl_loss(video_ND, audio_ND, temperature=0.3), expected)

    def test_mean_divides_by_the_batch_size(self) -> None:
        video_ND, audio_ND = pair(6)

        mean = selfcl_loss(video_ND, audio_ND, temperature=0.5, reduction="mean")

        torch.testing.assert_close(mean * 8, selfcl_loss(video_ND, audio_ND, temperature=0.5))


class TestSelfclInvariances:
    @given(seeds)
    @few
    def test_length_rotation_order_and_the_names_of_the_modalities_do_not_matter(self, seed: int) -> None:
        video_ND, audio_ND = pair(seed)
        row_N = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
        length_N1, other_N1 = pair(seed + 1, 8, 1)
        turn_DD = orthonormal(5, seed)
        loss = selfcl_loss(video_ND, audio_ND, temperature=0.5)

        torch.testing.assert_close(
            selfcl_loss(video_ND * length_N1.exp(), audio_ND * other_N1.exp(), temperature=0.5), loss
        )
        torch.testing.assert_close(selfcl_loss(video_ND @ turn_DD, audio_ND @ turn_DD, temperature=0.5), loss)
        torch.testing.assert_close(selfcl_loss(video_ND[row_N], audio_ND[row_N], temperature=0.5), loss)
        torch.testing.assert_close(selfcl_loss(audio_ND, video_ND, temperature=0.5), loss)


def losses() -> list[Callable[[Tensor, Tensor], Tensor]]:
    return [
        lambda video, audio: cgra_loss(video, audio, center=True),
        lambda video, audio: cgra_loss(video, audio, center=False),
        lambda video, audio: selfcl_loss(video, audio, temperature=0.3),
    ]


@pytest.mark.parametrize("loss", losses())
class TestNumerics:
    def test_gradient_is_the_derivative(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        video_ND, audio_ND = (features.requires_grad_() for features in pair(7, 4, 3))

        assert torch.autograd.gradcheck(loss, (video_ND, audio_ND))

    def test_dead_channels_and_samples_leave_loss_and_gradient_finite(
        self, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        video_ND, audio_ND = (features.float() for features in pair(8))
        video_ND[:, 0] = 0
        video_ND[2] = 0
        audio_ND[:, 1] = 0.3
        video_ND.requires_grad_()
        audio_ND.requires_grad_()

        loss(video_ND, audio_ND).backward()  # type: ignore[no-untyped-call]

        assert video_ND.grad is not None
        assert audio_ND.grad is not None
        assert video_ND.grad.abs().max() < 1e3
        assert audio_ND.grad.abs().max() < 1e3

    def test_half_precision_is_left_behind(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        video_ND, audio_ND = (features.half() for features in pair(9))
        expected = loss(video_ND.float(), audio_ND.float())

        with torch.autocast("cpu", dtype=torch.float16):
            value = loss(video_ND, audio_ND)

        assert value.dtype == torch.float32
        assert value == expected

    def test_double_precision_is_kept(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        assert loss(*pair(10)).dtype == torch.float64

    @pytest.mark.parametrize(
        ("video_shape", "audio_shape", "message"),
        [
            ((1, 3), (1, 3), "at least 2"),
            ((4, 3), (4, 2), "one shape"),
            ((4, 3), (5, 3), "one shape"),
            ((4,), (4,), "one"),
        ],
    )
    def test_what_is_no_batch_of_pairs_is_refused(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        video_shape: tuple[int, ...],
        audio_shape: tuple[int, ...],
        message: str,
    ) -> None:
        with pytest.raises(ValueError, match=message):
            loss(torch.ones(video_shape), torch.ones(audio_shape))


def test_dead_channels_get_no_gradient_from_cgra() -> None:
    video_ND, audio_ND = pair(11)
    video_ND[:, 0] = 0
    video_ND.requires_grad_()

    cgra_loss(video_ND, audio_ND, center=False).backward()

    assert video_ND.grad is not None
    assert (video_ND.grad[:, 0] == 0).all()
    assert (video_ND.grad[:, 1:] != 0).all()


@pytest.mark.parametrize("temperature", [0.0, -0.5])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        selfcl_loss(torch.ones(2, 3), torch.ones(2, 3), temperature=temperature)


def test_dead_share_counts_channels_that_are_zero_in_every_sample() -> None:
    features_ND = torch.tensor([[0.0, 0, 1, 0], [0, 2, 3, 0]])

    assert dead_share(features_ND) == 0.5


def test_what_is_not_a_number_is_seen_and_not_counted_as_dead() -> None:
    video_ND = torch.rand(4, 3)
    video_ND[0, 0] = torch.nan

    assert cgra_loss(video_ND, torch.rand(4, 3)).isnan()
    assert selfcl_loss(video_ND, torch.rand(4, 3), temperature=0.5).isnan()
