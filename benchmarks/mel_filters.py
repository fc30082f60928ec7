"""Store librosa's mel filter banks that presets and recipes use beside the code that reads them: about 30 KB.

    python benchmarks/mel_filters.py

To be run where `BANKS` changes; `tests/media/test_mel_filters.py` holds what is stored against librosa.
"""

import numpy as np

from kinetics_sounds.media import mel_filters


def main() -> None:
    """Write the file."""
    arrays: dict[str, np.ndarray] = {}
    for bank in mel_filters.BANKS:
        made = mel_filters.from_librosa(*bank)
        arrays |= {mel_filters.name_of(*bank, part): getattr(made, part) for part in mel_filters.PARTS}
    np.savez_compressed(mel_filters.STORED, allow_pickle=False, **arrays)
    print(f"{mel_filters.STORED.name}: {mel_filters.STORED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
