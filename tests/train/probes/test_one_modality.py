"""Features of pictures alone."""

import pytest
import torch

from kinetics_sounds.train.probes import Features, crossmodal


def test_pictures_alone_have_no_sounds() -> None:
    alone = Features(torch.ones(2, 3), torch.zeros(2, 0), torch.tensor([0, 1]), ("a", "b"))

    assert [prefix for prefix, _ in alone.sides()] == ["video_"]
    with pytest.raises(ValueError, match="no sounds to retrieve"):
        crossmodal.evaluate(alone, None, crossmodal.Settings())
