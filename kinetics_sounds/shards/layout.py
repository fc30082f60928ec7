"""What a shard set's files and a sample's parts are called: the only place that names them.

SHARDS/dataset.json                what the set holds and every number needed to make it again
SHARDS/stats.json                  mean and deviation of its log spectrograms, where ks-shard stats has computed them
SHARDS/{split}/{split}-000000.tar  plain WebDataset, USTAR: the parts below, key by key
SHARDS/{split}/{split}-000000.json the tar's index: where each part lies, and the tar's checksum
"""

from pathlib import Path

SCHEMA = 1
"""Of an index. Raised when it changes its meaning; a reader refuses any other."""

DATASET_SCHEMA = 2
"""Of `dataset.json`. Schema 1 (before 0.2.0) has no selection and content, and is read."""

FRAMES = "mp4"
"""H.264, every 16 frames one closed group of pictures, short side as `dataset.json` says."""
JPEGS = "mjpeg"
"""In place of `FRAMES` where `--codec jpeg` was given: every frame a JPEG, one after another (Motion JPEG); `META` says how
many bytes each has, and its CRC-32, so that a few can be read and trusted without the rest."""
MEL = "mel.npy"
"""float16, shape (bands, columns), in [0, 1]: the whole audio."""
AUDIO = "flac"
"""24 kHz mono, 16 bit."""
META = "json"
"""label, label_index, split, fps, num_frames, times, the clip's sha256, versions."""

DATASET = "dataset.json"
STATS = "stats.json"


def tar_path(folder: Path, split: str, number: int) -> Path:
    """Where a split's shard lies."""
    return folder / split / f"{split}-{number:06d}.tar"


def index_path(tar: Path) -> Path:
    """The index beside a tar."""
    return tar.with_suffix(".json")
