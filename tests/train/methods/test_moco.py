"""MoCo: what a query is compared with, what follows an update, and what is refused."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinetics_sounds.train.interface import Data
from kinetics_sounds.train.losses.queue import own_key_loss, queue_logits
from kinetics_sounds.train.methods import moco

from .flat import DATA, NOW, Flat, batch

SMALL = {"mode": "joint", "queue": 32, "dim": 8, "momentum": 0.9}
TINY = {"queue": 4}


def method(data: Data = DATA, **settings: Any) -> moco.Moco:
    torch.manual_seed(0)
    return moco.build(moco.Settings(**{"queue": 8, "dim": 4, **settings}), video=Flat(), audio=Flat(), data=data)


def embedded(encoder: nn.Module, head: nn.Module, given: Tensor) -> Tensor:
    return F.normalize(head(encoder(given)), dim=1)


def test_across_modalities_each_is_compared_with_the_others_key_and_queue() -> None:
    made, given = method(temperature=0.5), batch()
    assert given.video is not None
    assert given.audio is not None
    video, audio = (
        embedded(getattr(made, name), made.heads[name], getattr(given, name)[:, 0]) for name in moco.MODALITIES
    )
    queues = {name: queue.rows_KD for name, queue in made.queues.items()}
    expected = own_key_loss(queue_logits(video, audio, queues["video_audio"], temperature=0.5)) + own_key_loss(
        queue_logits(audio, video, queues["audio_video"], temperature=0.5)
    )

    assert sorted(queues) == ["audio_video", "video_audio"]
    torch.testing.assert_close(made(given, NOW).loss, expected.mean())


def test_within_a_modality_the_key_is_the_other_view() -> None:
    made, given = method(mode="intra"), batch(views=2)
    assert given.video is not None
    output = made(given, NOW)

    assert made.views == 2
    assert sorted(made.queues) == ["audio_audio", "video_video"]
    torch.testing.assert_close(
        output.kept["video"], embedded(made.key_encoders["video"], made.key_heads["video"], given.video[:, 1])
    )


def test_joint_is_the_mean_of_both() -> None:
    joint, given = method(mode="joint"), batch(views=2)
    losses = []
    for mode in ("cross", "intra"):
        part = method(mode=mode)
        part.load_state_dict({name: value for name, value in joint.state_dict().items() if name in part.state_dict()})
        losses.append(part(given, NOW).loss)

    torch.testing.assert_close(joint(given, NOW).loss, torch.stack(losses).mean())


def test_keys_have_no_gradient_and_queries_do() -> None:
    made = method()
    made(batch(), NOW).loss.backward()

    assert all(each.grad is None for each in (*made.key_encoders.parameters(), *made.key_heads.parameters()))
    assert all(
        each.grad is not None and each.grad.any() for each in (*made.video.parameters(), *made.heads.parameters())
    )


def test_after_an_update_copies_follow_and_keys_are_queued() -> None:
    made, given = method(momentum=0.75), batch()
    kept = made(given, NOW).kept
    with torch.no_grad():
        made.video.layer.weight += 1
    made.after_update(kept, NOW)

    torch.testing.assert_close(
        made.video.layer.weight - made.key_encoders["video"].layer.weight, torch.full((6, 6), 0.75)
    )
    torch.testing.assert_close(made.queues["video_audio"].rows_KD[:4], kept["audio"])
    torch.testing.assert_close(made.queues["audio_video"].rows_KD[:4], kept["video"])


def test_a_forward_pass_alone_changes_nothing() -> None:
    made = method()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made(batch(), NOW)

    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def test_momentum_copies_count_as_encoders() -> None:
    made = method()

    assert made.encoders() == [made.video, made.audio, *made.key_encoders.values()]


def test_a_model_for_evaluation_has_no_queue() -> None:
    made = method(DATA._replace(samples=0))

    assert not [name for name in made.state_dict() if name.startswith("queues.")]
    assert {name for name in method().state_dict() if not name.startswith("queues.")} == set(made.state_dict())


def test_a_queue_that_a_sample_would_meet_itself_in_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"queue of 20 keys must be smaller than the split, which has 20 samples; give --moco\.queue 5"
    ):
        method(queue=20)


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"queue": 0}, {"momentum": 1.5}, {"temperature": 0.0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="moco: dim and queue must be at least 1"):
        moco.Settings(**wrong)


def test_the_second_head_has_a_hidden_layer() -> None:
    """512 to 128: 65,664 parameters in v1, and 328,320 with 512 between in v2."""
    counts = []
    for head in ("linear", "mlp"):
        made = moco.build(moco.Settings(head=head, queue=8), video=Flat(512), audio=Flat(512), data=DATA)
        counts.append(sum(each.numel() for each in made.heads["video"].parameters()))

    assert counts == [512 * 128 + 128, 328_320]


def test_weights_that_are_taken_over_are_the_key_encoders_beginning_too() -> None:
    """Else each query would be compared with what random encoders say, for as long as their momentum lasts."""
    made = method()
    with torch.no_grad():
        for parameter in (*made.video.parameters(), *made.audio.parameters(), *made.heads.parameters()):
            parameter.normal_()
    made.adopt({}, {})
    output = made(batch(), NOW)
    given = batch()
    assert given.audio is not None

    torch.testing.assert_close(output.kept["audio"], embedded(made.audio, made.heads["audio"], given.audio[:, 0]))


def test_how_often_a_query_is_nearest_to_its_own_key_is_told() -> None:
    """Keys of the query encoders themselves, and a queue that points the other way: always; a queue that holds them: never."""
    made, given = method(), batch()
    video, audio = (
        embedded(getattr(made, name), made.heads[name], getattr(given, name)[:, 0]).detach() for name in moco.MODALITIES
    )
    found = []
    for sign in (-1, 1):
        made.queues["video_audio"].rows_KD.copy_((sign * video).repeat(2, 1))
        made.queues["audio_video"].rows_KD.copy_((sign * audio).repeat(2, 1))
        found.append(made(given, NOW).logs["key_top1"].item())

    own = (video * audio).sum(dim=1)
    assert found[1] == 0
    assert found[0] == pytest.approx(
        100
        * ((own > (-video @ video.T).amax(1)).float().mean() + (own > (-audio @ audio.T).amax(1)).float().mean())
        / 2
    )
