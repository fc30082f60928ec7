"""ks-eval cam: maps against closed forms, and the pictures it leaves."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinetics_sounds import stream
from kinetics_sounds.media.decode import decode_jpegs, encode_jpeg
from kinetics_sounds.stream import open_split
from kinetics_sounds.train import evaluate, load
from kinetics_sounds.train.evaluation.protocols import cam
from kinetics_sounds.train.models.backbones import tied_copy

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("captum") is None, reason="no captum here"
)  # found and not imported: every process that runs tests would


class Pooled(nn.Module):
    """A convolution and the mean over time and space: the smallest encoder with a last stage."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv5 = nn.Sequential(nn.Conv3d(channels, width, 3, padding=1), nn.ReLU())
        self.dim = width

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        maps_BDTHW: Tensor = self.conv5(video_BCTHW)
        return maps_BDTHW.mean(dim=(2, 3, 4))


@pytest.fixture
def encoder() -> Pooled:
    torch.manual_seed(0)
    return Pooled(3, 5)


def inputs(clips: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(clips, 3, 4, 6, 7, generator=generator), torch.rand(clips, 3, 4, 6, 7, generator=generator)


class TestGradCam:
    def test_of_a_mean_and_a_linear_head_is_the_class_activation_map(self, encoder: Pooled) -> None:
        """Closed form (methods 6.8): the weights are those of the head, W_c / (T H W), and CAM is sum over k of W_ck A_k."""
        head = nn.Linear(5, 4)
        video, _ = inputs()
        score = cam.predicted(lambda video, _: head(encoder(video)))

        found_BTHW = cam.grad_cam(score, encoder.conv5, (video, video))

        with torch.no_grad():
            maps_BDTHW = encoder.conv5(video)
            best_B = head(encoder(video)).argmax(dim=1)
            activation_BTHW = torch.einsum("bd,bdthw->bthw", head.weight[best_B], maps_BDTHW)
        torch.testing.assert_close(found_BTHW, activation_BTHW.relu() / (4 * 6 * 7))
        assert found_BTHW.max() > 0

    def test_a_clip_does_not_change_anothers_map(self, encoder: Pooled) -> None:
        video, audio = inputs(2)
        score = cam.cosine(made(encoder, encoder))

        both = cam.grad_cam(score, encoder.conv5, (video, audio))
        alone = cam.grad_cam(score, encoder.conv5, (video[1:], audio[1:]))

        torch.testing.assert_close(both[1:], alone)

    def test_of_a_cosine_finds_evidence_in_every_clip(self) -> None:
        """Longer features have the same cosine, so the map before the ReLU sums to 0: some of it is above."""
        torch.manual_seed(0)
        sides = made(Pooled(3, 5), Pooled(3, 5))
        video, audio = inputs(3)

        found_BTHW = cam.grad_cam(cam.cosine(sides), sides.video.conv5, (video, audio))

        maps_BDTHW = sides.video.conv5(video).detach().requires_grad_()
        cosine_B = nn.functional.cosine_similarity(maps_BDTHW.mean(dim=(2, 3, 4)), sides.audio(audio).detach())
        weight_BD = torch.autograd.grad(cosine_B.sum(), maps_BDTHW)[0].mean(dim=(2, 3, 4))
        signed_BTHW = torch.einsum("bd,bdthw->bthw", weight_BD, maps_BDTHW.detach())
        torch.testing.assert_close(signed_BTHW.sum(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(found_BTHW, signed_BTHW.relu())
        assert (found_BTHW.flatten(1).amax(dim=1) > 0).all()


def made(video: nn.Module, audio: nn.Module, method: nn.Module | None = None) -> Any:
    """Two encoders where a run's are expected."""

    class Sides:
        pass

    sides: Any = Sides()
    sides.video, sides.audio, sides.method = video, audio, method
    return sides


class TestScore:
    def test_is_the_cosine_of_the_two_features(self, encoder: Pooled) -> None:
        video, _ = inputs()
        score, what = cam.score_of(made(encoder, encoder))

        assert what == "the cosine of video and audio"
        torch.testing.assert_close(score(video, video), torch.ones(2))

    def test_is_the_logit_of_the_predicted_class_where_the_method_has_logits(self, encoder: Pooled) -> None:
        method: Any = nn.Module()
        method.logits = lambda video, audio: torch.tensor([[1.0, 5, 2], [4, 0, 3]])
        score, what = cam.score_of(made(encoder, encoder, method))

        assert what == "the predicted class"
        assert score(*inputs()).tolist() == [5, 4]

    def test_of_features_of_unequal_width_is_refused(self, encoder: Pooled) -> None:
        with pytest.raises(ValueError, match=r"cosines need equal widths: video 5, audio 6"):
            cam.score_of(made(encoder, Pooled(3, 6)))


class TestOneEncoderForBoth:
    def test_is_explained_for_each_side_apart(self, encoder: Pooled) -> None:
        """The two have the same weights, so what either is given decides."""
        two = made(encoder, tied_copy(encoder))
        video, audio = inputs()

        maps = [cam.grad_cam(cam.cosine(two), side.conv5, (video, audio)) for side in (two.video, two.audio)]

        swapped = cam.grad_cam(cam.cosine(two), two.audio.conv5, (audio, video))
        torch.testing.assert_close(maps[0], swapped)
        assert not torch.allclose(maps[0], maps[1])


class TestMaps:
    def test_reach_from_zero_to_one_in_each_clip(self) -> None:
        found = cam.unit_range(torch.tensor([[[2.0, 4], [6, 2]], [[0, 0.1], [0, 0]], [[3, 3], [3, 3]]]))

        assert found.tolist() == [[[0, 0.5], [1, 0]], [[0, 1], [0, 0]], [[0, 0], [0, 0]]]

    def test_are_spread_linearly_over_time_and_space(self) -> None:
        """A ramp of two values over four places: half a place beyond the ends it stays."""
        ramp_BTHW = torch.tensor([0.0, 1.0])[None, :, None, None]

        assert cam.spread(ramp_BTHW, (4, 2, 3))[0, :, 1, 2].tolist() == [0, 0.25, 0.75, 1]
        torch.testing.assert_close(cam.spread(torch.ones(1, 2, 2), (3, 5)), torch.ones(1, 3, 5))


class TestPicture:
    def test_shows_frames_and_mel_above_the_same_with_their_maps(self) -> None:
        """Black frames under a map of 0 stay black; where the map is 1 they have half of the brightest colour."""
        map_THW = torch.zeros(2, 120, 120)
        map_THW[1, :, 60:] = 1
        shown = {"video": torch.zeros(1, 2, 120, 120, 3, dtype=torch.uint8), "audio": torch.zeros(120, 120)}

        found = cam.picture(cam.Explained(0.0, map_THW, torch.zeros(120, 120)), shown, frames=2)

        assert found.shape == (2 * 124, 3 * 124, 3)
        assert found.dtype == np.uint8
        assert found[:120, :244].max() == 255  # the gap between the frames
        assert found[:120, :120].max() == 0
        assert found[124:244, :120].max() <= 2  # magma's darkest colour is (0, 0, 4)
        assert found[124 + 60, 124 + 90].tolist() == [126, 126, 96]  # magma's brightest is (252, 253, 191)
        assert found[124 + 60, 124 + 30].max() <= 2

    @pytest.mark.parametrize(("flipped", "lights"), [(False, slice(-10, None)), (True, slice(0, 10))])
    def test_low_bands_lie_at_the_bottom(self, *, flipped: bool, lights: slice) -> None:
        """Both the mel-spectrogram and its map, whichever way the encoder took it."""
        mel_HW, map_HW = torch.zeros(120, 120), torch.zeros(120, 120)
        mel_HW[:10], map_HW[:10] = 1, 1
        shown = {"video": torch.zeros(1, 1, 120, 120, 3, dtype=torch.uint8), "audio": mel_HW}

        found = cam.picture(cam.Explained(0.0, torch.zeros(1, 120, 120), map_HW), shown, frames=1, flipped=flipped)

        plain, over = found[:120, 124:244].astype(int), found[124:244, 124:244].astype(int)
        assert plain[-10:].min() == 255
        assert plain[:-10].max() == 0
        assert (2 * over - plain)[lights].min() > 180  # the bright colour of the map

    def test_small_images_are_enlarged_by_a_whole_factor(self) -> None:
        shown = {"video": torch.full((1, 1, 30, 30, 3), 9, dtype=torch.uint8), "audio": torch.zeros(30, 30)}

        found = cam.picture(cam.Explained(0.0, torch.zeros(1, 30, 30), torch.zeros(30, 30)), shown, frames=4)

        assert found.shape == (2 * 94, 2 * 94, 3)

    def test_low_frames_and_mel_are_drawn_equally_high_without_a_hole(self) -> None:
        shown = {"video": torch.full((1, 1, 60, 90, 3), 9, dtype=torch.uint8), "audio": torch.zeros(150, 50)}

        found = cam.picture(cam.Explained(0.0, torch.zeros(1, 60, 90), torch.zeros(150, 50)), shown, frames=1)

        assert found.shape == (2 * 154, 229 + 54, 3)
        assert (found[:150, :225] == 9).all()

    @pytest.mark.parametrize(
        ("total", "wanted", "found"), [(6, 2, [0, 3]), (6, 4, [0, 1, 3, 4]), (2, 8, [0, 1]), (0, 3, [])]
    )
    def test_what_is_drawn_is_evenly_spaced(self, total: int, wanted: int, found: list[int]) -> None:
        assert cam.spaced(total, wanted) == found


@pytest.fixture
def draw(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """A function from more options to the results of `ks-eval cam` on the finished run."""

    def results(*more: str) -> dict[str, Any]:
        assert evaluate.main(["cam", f"--run={finished}", f"--out={tmp_path}", "--device=cpu", *more]) == 0
        told: dict[str, Any] = json.loads((tmp_path / "results.json").read_text())
        return told

    return results


class TestCommand:
    def test_leaves_a_picture_a_clip_and_says_which(
        self, draw: Callable[..., dict[str, Any]], shards: Path, tmp_path: Path
    ) -> None:
        split = open_split(shards, "test")

        told = draw("--samples=3", "--frames=2")

        assert [clip["key"] for clip in told["clips"]] == [split.key(number) for number in (0, 2, 4)]
        assert [clip["label"] for clip in told["clips"]] == ["even"] * 3
        assert (told["checkpoint"], told["on_split"], told["layer"]) == ("step-00000006", "test", "conv5")
        assert told["score"] == "the cosine of video and audio"
        assert sorted(path.name for path in tmp_path.glob("*.jpg")) == sorted(clip["file"] for clip in told["clips"])
        (picture_HWC,) = decode_jpegs([(tmp_path / told["clips"][0]["file"]).read_bytes()])
        assert picture_HWC.shape == (2 * 172, 3 * 172, 3)  # a mel of 56 thrice as large, and frames of 32 as high as it

    def test_score_is_the_cosine_of_the_clips_features(
        self, draw: Callable[..., dict[str, Any]], finished: Path, shards: Path
    ) -> None:
        encoders = load(finished)
        with stream.sample(open_split(shards, "test"), 0) as sample:
            video_D, audio_D = encoders.features(sample, clips=1)

        (clip,) = draw("--samples=1")["clips"]

        assert clip["score"] == pytest.approx(float(nn.functional.cosine_similarity(video_D, audio_D, dim=0)), abs=1e-5)

    def test_draws_the_untrained_encoders_too(self, draw: Callable[..., dict[str, Any]]) -> None:
        assert draw("--samples=1", "--untrained", "--layer=conv4")["checkpoint"] == "untrained"

    def test_tells_what_it_replaces(
        self, draw: Callable[..., dict[str, Any]], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        draw("--samples=1")
        draw("--samples=1")
        assert capsys.readouterr().err == ""

        draw("--samples=2", "--layer=conv4")

        told = f"replaces the result of 1 clips of {shards}, step-00000006 (other layer, samples); keep both with --out"
        assert capsys.readouterr().err == f"note: {tmp_path}/results.json {told}\n"

    @pytest.mark.parametrize(
        ("argv", "complaint"),
        [
            (["--layer=conv9"], r"R3D has no stage 'conv9'; it has: conv1, conv2, conv3, conv4, conv5"),
            (["--samples=0"], r"--samples 0: must be at least 1"),
            (["--on_split=val"], r"has no split 'val'"),
            (["--run=/nowhere"], r"/nowhere: is not a training run"),
            (["--cam.k=1"], r"--cam\.k"),
        ],
    )
    def test_misuse_is_told_in_one_line(
        self, argv: list[str], complaint: str, finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        assert evaluate.main(["cam", f"--run={finished}", f"--out={tmp_path / 'out'}", "--device=cpu", *argv]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(complaint, line), line


def test_a_picture_survives_its_jpeg() -> None:
    picture_HWC = np.zeros((32, 32, 3), dtype=np.uint8)
    picture_HWC[:16, 16:] = (200, 50, 50)

    (found_HWC,) = decode_jpegs([encode_jpeg(picture_HWC)])

    assert np.abs(found_HWC.astype(int) - picture_HWC).max() <= 8
