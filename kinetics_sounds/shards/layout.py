"""File names of a shard set and part names of a sample; defined only here.

SHARDS/dataset.json                what the set holds, and all parameters needed to make it again
SHARDS/stats.json                  mean and standard deviation of its spectrograms, if ks-shard stats computed them
SHARDS/{split}/{split}-000000.tar  plain WebDataset, USTAR: the parts below, sample by sample
SHARDS/{split}/{split}-000000.json the tar's index: byte range of each part, and the tar's checksum
"""

from pathlib import Path

from ..clip import ALL
from ..clip import SPLITS as SPLITS_OF_BUILDS

SCHEMA = 1
"""Schema version of an index, incremented on incompatible changes; readers refuse any other."""

DATASET_SCHEMA = 2
"""Schema version of `dataset.json`. Schema 1 (before 0.2.0) lacks selection and content, and can be read."""
FOLDS_SCHEMA = 3
"""Schema version of a `dataset.json` with folds, which other sets do not have."""

LABELS_SCHEMA = 4
"""Schema version of a `dataset.json` whose samples have several labels."""

SPLITS = (*SPLITS_OF_BUILDS, ALL)
"""Splits that may be stored, each in a folder of its name; `fold1_train` and so on are samples of `ALL`."""

FRAMES = "mp4"
"""H.264, closed groups of 16 frames, shorter side as given in `dataset.json`."""
JPEGS = "mjpeg"
"""Replaces `FRAMES` with `--codec jpeg`: one JPEG per frame, concatenated (Motion JPEG); `META` has the size and CRC-32 of
each, so that single frames can be read and verified."""
MEL = "mel.npy"
"""float16, shape (bands, columns), values in [0, 1]: the whole audio track."""
AUDIO = "flac"
"""24 kHz mono, 16 bit."""
META = "json"
"""label, label_index (where samples have several: labels, label_indices), split, folds, fps, num_frames, times,
the clip's sha256, versions."""

DATASET = "dataset.json"
STATS = "stats.json"


def tar_path(folder: Path, split: str, number: int) -> Path:
    """Path of a split's shard."""
    return folder / split / f"{split}-{number:06d}.tar"


def index_path(tar: Path) -> Path:
    """Path of the index beside a tar."""
    return tar.with_suffix(".json")
