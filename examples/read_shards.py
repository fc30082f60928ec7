"""Read the shards of ks-shard without kinetics-sounds: copy what you need.

    python examples/read_shards.py torch data/k32/shards/train
    python examples/read_shards.py webdataset data/k32/shards/train
    python examples/read_shards.py datasets data/k32/shards/train

Each tar is plain WebDataset: for each clip `KEY.mp4` (frames), `KEY.mel.npy` (mel-spectrogram), `KEY.flac` (24 kHz mono) and
`KEY.json` (label, label_index, split, times ...). Each tar has an index, `NAME.json`, with the offset and size of every part.
"""

import importlib.util
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

Rows = Iterable[tuple[str, int, np.ndarray]]


class Shards:
    """A map-style dataset of key, label index and mel-spectrogram, read at the offsets in the indexes; also frames and sound."""

    def __init__(self, folder: str) -> None:
        """Read the indexes of one split."""
        self.rows: list[tuple[Path, str, int, list[str], list[int], list[int]]] = []
        for path in sorted(Path(folder).glob("*-*.json")):
            index = json.loads(path.read_text())
            tar = path.with_suffix(".tar")
            for row, key in enumerate(index["keys"]):
                places = index["parts"], index["offsets"][row], index["sizes"][row]
                self.rows.append((tar, key, index["label_indices"][row], *places))

    def __len__(self) -> int:
        """Number of clips in the split."""
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[str, int, np.ndarray]:
        """One clip."""
        return *self.rows[index][1:3], np.load(self.part(index, "mel.npy"), allow_pickle=False)

    def part(self, index: int, name: str) -> io.BytesIO:
        """One part of a clip, as it is stored."""
        tar, _, _, parts, offsets, sizes = self.rows[index]
        place = parts.index(name)
        with tar.open("rb") as file:
            file.seek(offsets[place])
            return io.BytesIO(file.read(sizes[place]))

    def frames(self, index: int) -> np.ndarray:
        """All frames of a clip with PyAV, uint8 (T, H, W, 3); each 16 of them can be decoded alone, after a seek."""
        import av

        with av.open(self.part(index, "mp4"), "r") as video:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])

    def sound(self, index: int) -> np.ndarray:
        """The sound of a clip with soundfile, float32 at 24 kHz."""
        import soundfile

        samples: np.ndarray = soundfile.read(self.part(index, "flac"), dtype="float32")[0]
        return samples


def with_torch(folder: str) -> Rows:
    """Read with a stock DataLoader, shuffled. `frames` and `sound` can be returned likewise."""
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


def main(words: list[str]) -> None:
    """Print key, label index and shapes of every clip, and frames and sound of the first, if PyAV and soundfile are there."""
    usage = f"usage: python examples/read_shards.py {'|'.join(READERS)} SHARDS/SPLIT, the folder of a split's tars"
    if {"-h", "--help"}.intersection(words):
        print(usage)
        return
    if len(words) != 2 or words[0] not in READERS:
        sys.exit(usage)
    if not any(Path(words[1]).glob("*.tar")):
        sys.exit(f"{words[1]}: no tars are there\n{usage}")
    for key, label, mel in READERS[words[0]](words[1]):
        print(key, label, mel.shape)
    clips = Shards(words[1])
    for package, part, decode in (("av", "mp4", clips.frames), ("soundfile", "flac", clips.sound)):
        if clips.rows and importlib.util.find_spec(package) and part in clips.rows[0][3]:
            print(clips.rows[0][1], part, decode(0).shape)


if __name__ == "__main__":
    main(sys.argv[1:])
