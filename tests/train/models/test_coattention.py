"""Co-attention: one position is handed on, the values stay in their convex hull, and who asks whom."""

import torch

from kinetics_sounds.train.models.coattention import CoAttention


def maps(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_one_position_is_handed_on_as_it_is() -> None:
    video, audio = maps(2, 4, 1, 1, 1, seed=0), maps(2, 4, 1, 3, 2, seed=1)
    seen, heard = CoAttention(4, project=False)(video, audio)

    torch.testing.assert_close(seen, video.flatten(1))
    torch.testing.assert_close(CoAttention(4, project=False)(audio, video)[1], video.flatten(1))
    assert heard.shape == (2, 4)


def test_it_is_the_formula() -> None:
    """H_v = softmax(F_a F_v^T / sqrt(d)) F_v, its mean over the audio's positions; and the other way round."""
    video, audio = maps(2, 4, 2, 1, 3, seed=0), maps(2, 4, 1, 2, 2, seed=1)
    seen, heard = CoAttention(4, project=False)(video, audio)
    for sample in range(2):
        tokens_v, tokens_a = video[sample].reshape(4, 6).T, audio[sample].reshape(4, 4).T
        torch.testing.assert_close(
            seen[sample], (torch.softmax(tokens_a @ tokens_v.T / 2, dim=1) @ tokens_v).mean(dim=0)
        )
        torch.testing.assert_close(
            heard[sample], (torch.softmax(tokens_v @ tokens_a.T / 2, dim=1) @ tokens_a).mean(dim=0)
        )


def test_what_is_handed_on_lies_within_its_own_positions() -> None:
    """In every channel between the least and the greatest of the video's positions, whatever the audio asks."""
    video, audio = maps(3, 5, 2, 2, 2, seed=0), 100 * maps(3, 5, 1, 2, 2, seed=1)
    seen, _ = CoAttention(5, project=False)(video, audio)
    positions = video.flatten(2)

    assert (seen >= positions.amin(dim=2) - 1e-9).all()
    assert (seen <= positions.amax(dim=2) + 1e-9).all()


def test_projections_that_change_nothing_change_nothing() -> None:
    plain, learnt = CoAttention(4, project=False), CoAttention(4, project=True).double()
    for each in learnt.parameters():
        torch.nn.init.eye_(each)
    given = maps(2, 4, 2, 1, 3, seed=0), maps(2, 4, 1, 2, 2, seed=1)

    assert len(list(plain.parameters())) == 0
    assert sum(each.numel() for each in learnt.parameters()) == 6 * 16
    for one, other in zip(plain(*given), learnt(*given), strict=True):
        torch.testing.assert_close(one, other)


def test_it_is_computed_in_float32_under_autocast() -> None:
    """Features of 12 in 512 channels have a product of 73,728, beyond what float16 holds."""
    map_BDP = torch.full((2, 512, 3), 12.0)
    with torch.autocast("cpu", dtype=torch.float16):
        video, audio = CoAttention(512, project=False)(map_BDP.half(), map_BDP.half())

    assert video.dtype == torch.float32
    torch.testing.assert_close(video, torch.full((2, 512), 12.0))
    torch.testing.assert_close(audio, torch.full((2, 512), 12.0))
