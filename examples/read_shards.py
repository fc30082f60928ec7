"""Read the shards of ks-shard without kinetics-sounds: copy what you need.

    python examples/read_shards.py torch data/k32/shards/train
    python examples/read_shards.py webdataset data/k32/shards/train
    python examples/read_shards.py datasets data/k32/shards/train

Each tar is plain WebDataset: for each clip `KEY.mp4` (frames), `KEY.mel.npy` (mel-spectrogram), `KEY.flac` (24 kHz mono) and
`KEY.json` (label, label_index, split, times ...). Each tar has an index, `NAME.json`, with the offset and size of every part.
"""

import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

Rows = Iterable[tuple[str, int, np.ndarray]]


class Shards:
    """A map-style dataset of key, label index and mel-spectrogram, read at the offsets in the indexes."""

    def __init__(self, folder: str) -> None:
        """Read the indexes of one split."""
        self.rows: list[tuple[Path, str, int, int, int]] = []
        for path in sorted(Path(folder).glob("*-*.json")):
            index = json.loads(path.read_text())
            part = index["parts"].index("mel.npy")
            for row, key in enumerate(index["keys"]):
                place = index["offsets"][row][part], index["sizes"][row][part]
                self.rows.append((path.with_suffix(".tar"), key, index["label_indices"][row], *place))

    def __len__(self) -> int:
        """Number of clips in the split."""
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[str, int, np.ndarray]:
        """One clip."""
        tar, key, label, offset, size = self.rows[index]
        with tar.open("rb") as file:
            file.seek(offset)
            return key, label, np.load(io.BytesIO(file.read(size)), allow_pickle=False)


def with_torch(folder: str) -> Rows:
    """Read with a stock DataLoader, shuffled. Frames can be read likewise, and decoded by any library."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(Shards(folder), batch_size=2, shuffle=True, num_workers=0)  # type: ignore[arg-type]
    for keys, labels, mels in loader:
        yield from zip(keys, labels.tolist(), mels.numpy(), strict=True)


def with_webdataset(folder: str) -> Rows:
    """Read with the webdataset package, which streams the tars sequentially."""
    import webdataset

    tars = sorted(map(str, Path(folder).glob("*.tar")))
    for sample in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False):
        mel = np.load(io.BytesIO(sample["mel.npy"]), allow_pickle=False)
        yield sample["__key__"], json.loads(sample["json"])["label_index"], mel


def with_datasets(folder: str) -> Rows:
    """Stream with Hugging Face's datasets; `row["mp4"]` and `row["flac"]` are a Video and an Audio."""
    import datasets

    rows = datasets.load_dataset(
        "webdataset", data_files={"train": str(Path(folder) / "*.tar")}, split="train", streaming=True
    )
    for row in rows.select_columns(["__key__", "json", "mel.npy"]):
        yield row["__key__"], row["json"]["label_index"], np.asarray(row["mel.npy"], dtype=np.float16)


READERS = {"torch": with_torch, "webdataset": with_webdataset, "datasets": with_datasets}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in READERS or not any(Path(sys.argv[2]).glob("*.tar")):
        sys.exit(
            f"usage: python examples/read_shards.py {'|'.join(READERS)} SHARDS/SPLIT, the folder of a split's tars"
        )
    for found_key, label_index, found_mel in READERS[sys.argv[1]](sys.argv[2]):
        print(found_key, label_index, found_mel.shape)
