"""The world keeps its promise: the class is told by time, and by nothing that a shortcut could read."""

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from kinetics_sounds.pipelines.synthetic import scenes

Floats = npt.NDArray[np.floating]
Feature = Callable[[Floats], Floats]

CLIPS, SETTINGS = 360, scenes.SceneSettings()
LABELS = np.arange(CLIPS) % len(scenes.CLASSES)
CHANCE = 1 / len(scenes.CLASSES)


@functools.cache
def clips() -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    return [scenes.render(int(label), seed, SETTINGS) for seed, label in enumerate(LABELS)]


def accuracy(feature_ND: Floats) -> float:
    """What the better of ridge regression and 9 nearest neighbours gets right, each half predicted from the other."""
    x_ND = (feature_ND - feature_ND.mean(0)) / (feature_ND.std(0) + 1e-9)
    x_ND = np.c_[x_ND, np.ones(len(x_ND))]
    onehot_NC = np.eye(len(scenes.CLASSES))[LABELS]
    # Labels run 0 1 2 3 4 5 0 1 ..., so halves of alternating sixes hold each class equally often.
    first = np.arange(len(x_ND)) // len(scenes.CLASSES) % 2 == 0
    right = {"ridge": 0, "neighbours": 0}
    for train, test in ((first, ~first), (~first, first)):
        gram_DD = x_ND[train].T @ x_ND[train] + 0.1 * train.sum() * np.eye(x_ND.shape[1])
        ridge_NC = x_ND[test] @ np.linalg.solve(gram_DD, x_ND[train].T @ onehot_NC[train])
        distance_NN = (x_ND[train] ** 2).sum(1) - 2 * x_ND[test] @ x_ND[train].T
        vote_NC = onehot_NC[train][np.argsort(distance_NN, axis=1)[:, :9]].sum(1)
        for name, score_NC in (("ridge", ridge_NC), ("neighbours", vote_NC)):
            right[name] += int((score_NC.argmax(1) == LABELS[test]).sum())
    return max(right.values()) / len(x_ND)


# --- What must not tell ---------------------------------------------------------------------------------------------


def mean_colour(frame_THWC: Floats) -> Floats:
    return np.concatenate([frame_THWC.mean((0, 1, 2)), frame_THWC.std((0, 1, 2))])


def thumbnail(frame_THWC: Floats) -> Floats:
    return np.asarray(frame_THWC[20].reshape(9, 4, 9, 4, 3).mean((1, 3)).ravel())


def one_frame(frame_THWC: Floats) -> Floats:
    """Of the frame in the middle: colours, edge directions, sharpness and radial spectrum, contrast taken out."""
    grey_HW = frame_THWC[20].mean(-1)
    grey_HW = (grey_HW - grey_HW.mean()) / grey_HW.std()
    colours = np.concatenate([np.histogram(frame_THWC[20, ..., c], 8, (0, 256))[0] for c in range(3)])
    down_HW, right_HW = np.gradient(grey_HW)
    steepness_HW = np.hypot(down_HW, right_HW)
    directions = np.histogram(np.arctan2(down_HW, right_HW) % np.pi, 8, (0, np.pi), weights=steepness_HW)[0]
    window = np.hanning(len(grey_HW))
    power_HW = np.abs(np.fft.fft2(grey_HW * window * window[:, None])) ** 2
    frequency = np.fft.fftfreq(len(grey_HW))
    radius_HW = np.hypot(frequency, frequency[:, None])
    spectrum = np.log(
        [power_HW[(low <= radius_HW) & (radius_HW < low + 0.05)].sum() for low in np.arange(0, 0.5, 0.05)]
    )
    border = np.r_[steepness_HW[:6].ravel(), steepness_HW[-6:].ravel()].mean()
    sharpness = np.log([steepness_HW.mean(), steepness_HW.max(), border, steepness_HW[12:24, 12:24].mean()])
    return np.concatenate([colours, directions, spectrum, sharpness])


def loudness(wave_N: Floats) -> Floats:
    return np.log([np.sqrt(np.mean(wave_N**2))])


def base_pitch(wave_N: Floats) -> Floats:
    """Octaves: the centre of the whole clip's power spectrum."""
    power_F = np.abs(np.fft.rfft(wave_N)[1:]) ** 2
    octave_F = np.log2(np.arange(1, len(power_F) + 1))
    return np.array([(octave_F * power_F).sum() / power_F.sum()])


@pytest.mark.parametrize("shortcut", [pytest.param(mean_colour, marks=pytest.mark.slow_campaign), thumbnail, one_frame])
def test_picture_without_time_says_nothing_of_the_class(shortcut: Feature) -> None:
    assert accuracy(np.stack([shortcut(frame.astype(float)) for frame, _ in clips()])) < CHANCE + 0.08


@pytest.mark.parametrize("shortcut", [loudness, base_pitch])
def test_sound_without_time_says_nothing_of_the_class(shortcut: Feature) -> None:
    assert accuracy(np.stack([shortcut(wave.astype(float)) for _, wave in clips()])) < CHANCE + 0.08


# --- What must tell -------------------------------------------------------------------------------------------------


def motion(frame_THWC: Floats) -> Floats:
    """The affine flow that best explains each frame from the one before, and the differences it leaves."""
    grey_THW = frame_THWC.mean(-1)
    grey_THW = (grey_THW - grey_THW.mean()) / grey_THW.std()
    change_TP = np.diff(grey_THW, axis=0).reshape(len(grey_THW) - 1, -1)
    down_TP, right_TP = (
        (slope[1:] + slope[:-1]).reshape(change_TP.shape) / 2 for slope in np.gradient(grey_THW, axis=(1, 2))
    )
    x = np.linspace(-1, 1, grey_THW.shape[1])
    across_P, along_P = (axis.ravel() for axis in np.meshgrid(x, x))
    way_3P = np.stack([np.ones_like(across_P), across_P, along_P])
    part_TKP = np.concatenate([right_TP[:, None] * way_3P, down_TP[:, None] * way_3P], axis=1)
    gram_TKK, answer_TK1 = part_TKP @ part_TKP.swapaxes(1, 2), part_TKP @ change_TP[..., None]
    flow_TK = -np.linalg.solve(gram_TKK, answer_TK1)[..., 0]
    left_TP = change_TP + np.einsum("tkp,tk->tp", part_TKP, flow_TK)
    right, right_across, right_along, down, down_across, down_along = flow_TK.T
    sizes = np.abs([right, down, right_across + down_along, right_along - down_across])
    energy = np.stack([(change_TP**2).mean(1), (left_TP**2).mean(1), *sizes])
    return np.asarray(np.log(np.r_[np.median(energy, axis=1), energy.mean(1)] + 1e-3))


def contour(wave_N: Floats) -> Floats:
    """How the strongest pitch and the envelope move from one 21 ms window to the next."""
    window_TN = wave_N[: len(wave_N) // 512 * 512].reshape(-1, 512) * np.hanning(512)
    power_TF = np.abs(np.fft.rfft(window_TN, 2048)[:, 1:]) ** 2
    envelope_T = np.log(power_TF.sum(1))
    octave_T = np.log2(1 + power_TF.argmax(1))
    octave_T = octave_T[envelope_T > np.median(envelope_T) - 2]
    step_T = np.diff(octave_T)
    still, up = np.mean(np.abs(step_T) < 0.03), np.mean(step_T > 0.03)
    return np.array([envelope_T.std(), octave_T.std(), still, up, np.abs(step_T).max()])


def test_motion_tells_the_class() -> None:
    assert accuracy(np.stack([motion(frame.astype(float)) for frame, _ in clips()])) > 0.7


def test_shape_of_the_sound_over_time_tells_the_class() -> None:
    assert accuracy(np.stack([contour(wave.astype(float)) for _, wave in clips()])) > 0.7


# --- The clip itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_picture_and_sound_share_one_tempo(seed: int) -> None:
    """A picture drifting f pixels a frame pulses 4 f times a second."""
    drifting = scenes.CLASSES.index("drifting up and down")
    tempo = scenes.tempo(drifting, seed)
    frame_THWC, wave_N = scenes.render(drifting, seed, SETTINGS)

    spectrum = np.abs(np.fft.rfft(wave_N**2 - np.mean(wave_N**2)))[:40]  # cycles in 4 seconds, up to 10 Hz
    assert spectrum.argmax() / SETTINGS.seconds == pytest.approx(4 * tempo, abs=0.15)

    grey_THW = frame_THWC.mean(-1)
    later_HW = grey_THW[10, 12:-12]
    mismatch = [np.abs(grey_THW[0, 12 + d : 24 + d] - later_HW).mean() for d in range(-12, 13)]
    assert abs(int(np.argmin(mismatch)) - 12) == pytest.approx(10 * tempo, abs=1)


def test_tempos_fill_half_to_one() -> None:
    tempos = [scenes.tempo(0, seed) for seed in range(200)]

    assert 0.5 <= min(tempos) < 0.52
    assert 0.98 < max(tempos) <= 1


@pytest.mark.parametrize("class_index", range(6))
def test_a_clip_is_decided_by_its_class_and_seed(class_index: int) -> None:
    frame, wave = scenes.render(class_index, 7, SETTINGS)
    frame_again, wave_again = scenes.render(class_index, 7, SETTINGS)
    other_frame, other_wave = scenes.render(class_index, 8, SETTINGS)

    assert frame.tobytes() == frame_again.tobytes()
    assert wave.tobytes() == wave_again.tobytes()
    assert frame.tobytes() != other_frame.tobytes()
    assert wave.tobytes() != other_wave.tobytes()


def test_shapes_follow_the_settings() -> None:
    settings = scenes.SceneSettings(side_pixels=48, frames_per_second=8, seconds=5, sample_rate_hz=16_000)

    frame, wave = scenes.render(3, 0, settings)

    assert (frame.shape, frame.dtype) == ((40, 48, 48, 3), np.uint8)
    assert (wave.shape, wave.dtype) == ((80_000,), np.float32)


def test_pictures_show_a_texture_and_sounds_are_heard_and_never_clip() -> None:
    for frame, wave in clips():
        assert frame.mean((1, 2)).std(1).shape == (40,)
        assert frame.std((1, 2)).max(1).min() > 5
        assert 0.005 < np.sqrt(np.mean(wave**2)) < 0.26
        assert np.abs(wave).max() < 1


def test_six_classes_have_distinct_names_and_a_seventh_is_refused() -> None:
    assert len(set(scenes.CLASSES)) == 6
    with pytest.raises(IndexError):
        scenes.render(6, 0, SETTINGS)
