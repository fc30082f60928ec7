"""Which renderings are compared."""

import pytest
import torch
from torch import nn

from kinetics_sounds.train.models import pairs
from kinetics_sounds.train.models.pairs import Rendering

from ..methods.flat import batch

VIDEO, AUDIO = (Rendering("video", 0), Rendering("video", 1)), (Rendering("audio", 0), Rendering("audio", 1))


def test_across_modalities_there_is_one_view_and_one_pair() -> None:
    assert pairs.views("cross") == 1
    assert pairs.compared("cross") == ((VIDEO[0], AUDIO[0]),)
    assert pairs.weight("cross") == 1


def test_within_modalities_there_are_two_views_and_a_pair_each() -> None:
    assert pairs.views("intra") == 2
    assert pairs.compared("intra") == (VIDEO, AUDIO)
    assert pairs.weight("intra") == 1


def test_joint_is_the_mean_of_both_and_renders_everything_once() -> None:
    assert pairs.compared("joint") == ((VIDEO[0], AUDIO[1]), VIDEO, AUDIO)
    assert pairs.weight("joint") == 0.5
    assert sorted(pairs.renderings("joint")) == sorted([*VIDEO, *AUDIO])


def test_a_view_without_a_modality_is_named() -> None:
    with pytest.raises(ValueError, match="the view gives no audio"):
        pairs.given(batch()._replace(audio=None), AUDIO[0])


def test_one_process_has_all_rows_already() -> None:
    local = {VIDEO[0]: torch.randn(3, 2), AUDIO[0]: torch.randn(3, 5)}
    found = pairs.gathered(local)

    assert all(torch.equal(found[each], local[each]) for each in local)


def test_the_mode_s_renderings_go_through_their_own_encoder_and_head() -> None:
    class Two(nn.Module):
        video, audio = nn.Flatten(), nn.Flatten()

    heads = nn.ModuleDict({"video": nn.Identity(), "audio": nn.ReLU()})
    given = batch(views=2)
    found = pairs.embeddings(Two(), heads, given, "joint")

    assert given.audio is not None
    torch.testing.assert_close(found[AUDIO[1]], given.audio[:, 1].relu())
    assert set(found) == {*VIDEO, *AUDIO}
