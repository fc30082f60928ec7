import matplotlib as mpl
import numpy as np
import torch

from kinetics_sounds.train.data.colormap import magma


def test_every_level_has_matplotlibs_colour() -> None:
    levels = torch.arange(256).reshape(1, 16, 16) / 255

    shown = magma(levels).movedim(1, -1).reshape(256, 3).numpy()

    assert np.abs(shown - mpl.colormaps["magma"](np.arange(256))[:, :3]).max() <= 0.5 / 255 + 1e-6


def test_what_lies_outside_is_the_nearest_end() -> None:
    dark, bright = magma(torch.tensor([[[-1.0, 2.0]]]))[0, :, 0].T

    assert torch.equal(torch.stack([dark, bright]), magma(torch.tensor([[[0.0, 1.0]]]))[0, :, 0].T)
    assert dark.sum() < 0.1 < 2 < bright.sum()
