"""A run that tells classes apart."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kinetics_sounds.train import pretrain


@pytest.fixture(scope="session")
def classified(small: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supervised run of three steps, with a validation; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "classified"
    assert pretrain.main(small(out, "--method=supervised", "--steps=3", "--val_split=test")) == 0
    return out
