"""The stored mel filters are librosa's to the bit, and cover every preset and recipe."""

import subprocess
import sys

import numpy as np
import pytest

from kinetics_sounds.media import mel
from kinetics_sounds.media.log_mel import LogMel
from kinetics_sounds.media.mel_filters import BANKS, mel_filters
from kinetics_sounds.train.config.recipes import recipes

from ..shipped import read


@pytest.mark.parametrize("bank", [*BANKS, (22_050, 1024, 64)])
def test_the_filters_are_librosas(bank: tuple[int, int, int]) -> None:
    from librosa.filters import mel as librosas  # two seconds, which not every worker need wait

    rate, n_fft, bands = bank
    found = mel_filters(*bank)

    assert found.dtype == np.float32
    np.testing.assert_array_equal(
        found.toarray(), librosas(sr=rate, n_fft=n_fft, n_mels=bands, fmin=0.0, fmax=rate / 2)
    )


@pytest.mark.slow_campaign
def test_every_preset_and_every_recipe_has_its_filters_stored() -> None:
    used = {(each.sample_rate, each.n_fft, each.bands) for each in mel.PRESETS.values()}
    for name in recipes():
        parsed = read(name)
        if parsed.settings.view == "clip_and_log_mel":
            numbers: LogMel = parsed.groups["clip_and_log_mel"].log_mel
            used.add((numbers.sample_rate, numbers.n_fft, numbers.bands))

    assert used == set(BANKS)


def test_stored_filters_need_no_librosa() -> None:
    code = "import sys; from kinetics_sounds.media.mel_filters import mel_filters; mel_filters(16_000, 512, 40)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('librosa' in sys.modules)"], check=True, capture_output=True, text=True
    )

    assert done.stdout == "False\n"
