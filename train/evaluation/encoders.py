"""What a run has learnt, with the preprocessing that belongs to it: what `kinetics_sounds.train.load` gives back.

Shape suffixes: B inputs, C channels, T frames (of a mel-spectrogram: columns), H and W pixels, F mel bands, D feature
channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kinetics_sounds import hub
from kinetics_sounds.config_text import MOST_CONFIG_BYTES
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.shards import reader
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Meta, Sample

from ..config import run_folder
from ..engine import build, checkpoint, checkpoint_state
from ..interface import Method

MOST_BYTES = {
    "config.yaml": MOST_CONFIG_BYTES,
    "run.json": run_folder.MOST_BYTES,
    "checkpoints/*/state.json": run_folder.MOST_BYTES,
    "checkpoints/*/model.safetensors": 8 << 30,
}
"""Files of a run that are read, and so all that is fetched of one on the Hub; the most bytes of each."""
MOST_FILES = 42
"""Of a run on the Hub: twenty checkpoints."""

if TYPE_CHECKING:
    from kinetics_sounds.media.mel import Mel  # librosa takes its time


LOUDEST = 2.0
"""Of a sound of floating point, whose decoding or resampling may go beyond 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawClip:
    """A clip of your own, which a view reads as it reads a `stream.Sample` of the shards.

    Raises ValueError where the frames are not uint8 (T, H, W, 3), the rate is not positive, the mel is not (F, T) or not in
    [0, 1], or the sound is not mono floating point, finite and in [-1, 1] (twice as loud is let through).
    """

    frames_THWC: np.ndarray
    """uint8 (T, H, W, 3), RGB; at least as large as the view's crop, or it is blown up."""
    fps: float
    """Frames a second."""
    mel_FT: np.ndarray | None = None
    """Of the whole sound, in [0, 1], low bands first, as `Encoders.mel_image` makes it."""
    sound: np.ndarray | None = None
    """Mono float32 (samples,) in [-1, 1] at the shards' 24 kHz (librosa.load(path, sr=24000) gives it), for views that read the
    sound itself; it begins with the first frame."""
    of: Dataset | None = None
    """The set that it is rendered like, `encoders.dataset`, for views that make a mel-spectrogram themselves."""
    key: str = "raw"
    """Its name in messages."""

    def __post_init__(self) -> None:
        frames_THWC = self.frames_THWC
        if frames_THWC.dtype != np.uint8 or frames_THWC.ndim != 4 or frames_THWC.shape[3] != 3 or not frames_THWC.size:
            raise ValueError(f"frames must be uint8 (T, H, W, 3), got {frames_THWC.dtype} {frames_THWC.shape}")
        if not 0 < self.fps < float("inf"):
            raise ValueError(f"fps {self.fps} must be more than 0")
        if self.mel_FT is not None and self.mel_FT.ndim != 2:
            raise ValueError(f"the mel-spectrogram must be (F, T), got {self.mel_FT.shape}")
        if self.mel_FT is not None and not ((self.mel_FT >= 0) & (self.mel_FT <= 1)).all():
            raise ValueError("the mel-spectrogram must be in [0, 1], as Encoders.mel_image makes it")
        if (sound := self.sound) is not None:
            if sound.ndim != 1 or sound.dtype.kind != "f":
                raise ValueError(f"the sound must be mono and float32 (samples,), got {sound.dtype} {sound.shape}")
            if not np.isfinite(sound).all() or np.abs(sound).max(initial=0.0) > LOUDEST:
                raise ValueError("the sound must be finite and in [-1, 1]: divide 16-bit samples by 32768")

    @property
    def meta(self) -> Meta:
        """What a sample says of itself."""
        samples = 0 if self.sound is None else len(self.sound)
        return Meta(num_frames=len(self.frames_THWC), fps=self.fps, audio_samples=samples)

    @property
    def dataset(self) -> Dataset:
        """The set that it is rendered like; raises ValueError where it was not given."""
        if self.of is None:
            raise ValueError(f"{self.key}: the view makes a mel-spectrogram; give of=encoders.dataset")
        return self.of

    def frames(self, numbers: Sequence[int], *, decoder: str = "auto") -> np.ndarray:
        """The frames of these numbers, in this order: uint8 (len(numbers), H, W, 3)."""
        return self.frames_THWC[list(numbers)]

    def mel(self) -> np.ndarray:
        """The mel-spectrogram (F, T); raises ValueError where it was not given."""
        if self.mel_FT is None:
            raise ValueError(f"{self.key}: the view reads a mel-spectrogram; give mel_FT=encoders.mel_image(waveform)")
        return self.mel_FT

    def waveform(self, *, first: int = 0, count: int | None = None) -> np.ndarray:
        """`count` samples of the sound from sample `first` on; raises ValueError where it was not given."""
        if self.sound is None:
            raise ValueError(f"{self.key}: the view reads the sound itself; give sound=waveform")
        return self.sound[first : None if count is None else first + count]


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoders:
    """Two encoders in evaluation mode, and how a clip becomes what they take."""

    method: Method
    """Owns both encoders, and whatever else was learnt with them (a projection head, a gate, a classifier)."""
    video: nn.Module
    """Float32 (B, C, T, H, W) to (B, D)."""
    audio: nn.Module
    """The same of the sound."""
    view: ModuleType
    """The module of `views` that renders a clip."""
    view_settings: Any
    """Its settings, as they were in training."""
    shards: str
    """Folder or URL of the set that the run was trained on."""
    checkpoint: Path | None
    """Where the weights come from; None: the initial ones."""
    own_mel: Mapping[str, Any]
    """What the run says of the mel-spectrograms of that set; empty where it is older than that."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie; `encoders.method.to("cuda")` moves them."""
        return next(self.method.parameters()).device

    def preprocess(self, sample: Sample | RawClip, *, clips: int = 1) -> dict[str, Tensor]:
        """What the encoders take of a clip in a test: "video" (clips, C, T, H, W), evenly spaced, and "audio".

        "audio" is the sound of all clips (1, C, T, H, W), or of each (clips, C, T, H, W), as the view has it.
        Raises as the sample does whose part is missing or damaged.
        """
        views = self.view.eval_views(sample, self.view_settings, clips)
        arrays = {name: value[None].to(self.device) for name, value in views.items()}
        return {name: value[0] for name, value in self.view.augment(arrays, self.view_settings).items()}

    @torch.no_grad()
    def features(self, sample: Sample | RawClip, *, clips: int = 10) -> tuple[Tensor, Tensor]:
        """Pooled features of a clip: video, averaged over evenly spaced `clips`, and audio, over their sounds: (D,) each.

        They are the encoders' own, before any gate or projection; the same as `ks-eval` judges.
        """
        inputs = self.preprocess(sample, clips=clips)
        return self.video(inputs["video"]).mean(dim=0), self.audio(inputs["audio"]).mean(dim=0)

    @cached_property
    def dataset(self) -> Dataset:
        """What the run's shards say of themselves; raises ShardError where the set is out of reach.

        RunError where they are at a URL, which a run may not have us ask: `reader.read_dataset(encoders.shards)` does.
        """
        return reader.read_dataset(run_folder.shards_of({"shards": self.shards}))

    @cached_property
    def mel(self) -> "Mel":
        """How the mel-spectrograms of the run's shards were made; raises MediaError for numbers that none of ours has.

        Where an older run does not say it, the set is asked, and this raises as `dataset`.
        """
        from kinetics_sounds.media.mel import of_set

        return of_set(self.own_mel or self.dataset.mel)

    def mel_image(self, waveform: np.ndarray) -> np.ndarray:
        """The mel-spectrogram that the run's shards hold of such a sound: float16 (F, T).

        `waveform` is mono float32 (samples,) at `mel.sample_rate` hertz, full scale 1. Raises as `mel`.
        """
        from kinetics_sounds.media.mel import mel_image

        return mel_image(waveform, self.mel).astype(np.float16)


class Asked(Protocol):
    """Settings of a command that judges a run."""

    @property
    def run(self) -> Path:
        """Its folder."""
        ...

    @property
    def checkpoint(self) -> str:
        """The name of one of its checkpoints."""
        ...

    @property
    def untrained(self) -> bool:
        """Whether the initial weights are judged instead."""
        ...


def load_asked(settings: Asked) -> Encoders:
    """The encoders that a command's settings ask for; raises SettingsError where they ask for two, and as `load`."""
    return load(settings.run, asked(settings))


def asked(settings: Asked) -> str | None:
    """The name of the checkpoint that is asked for, None for initial weights; raises SettingsError for both."""
    if settings.untrained and settings.checkpoint != "last":
        raise SettingsError(
            f"--untrained: judges initial weights, not --checkpoint {settings.checkpoint}; leave one out"
        )
    return None if settings.untrained else settings.checkpoint


def check_claims(folder: Path, path: Path | None) -> None:
    """Raise RunError where a run says that its model is another than that of its checkpoint, if there is one to compare.

    Done before the model takes memory: a stranger's run may claim any size.
    """
    try:
        outline = build.outline(run_folder.model_of(folder), run_folder.evaluated(run_folder.read_facts(folder)))
    except SettingsError as error:
        raise RunError(f"{folder}: its config.yaml says a model that cannot be: {error}") from error
    if path is not None:
        checkpoint.check_shapes(path, outline)


def load(place: str | Path, name: str | None = "last") -> Encoders:
    """The encoders of a run or of one of its checkpoints: see `kinetics_sounds.train.load`."""
    folder, own = _folder(place), None
    if (folder / "state.json").is_file():  # RUN/checkpoints/step-...
        folder, own = folder.absolute().parents[1], folder
    if own is not None and name not in ("last", None):
        raise RunError(f"{own}: is a checkpoint already, and {name!r} is another; give {folder} with it")
    facts = run_folder.read_facts(folder)
    path = None if name is None else own or checkpoint.find(folder / "checkpoints", name)
    check_claims(folder, path)
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn, and are nobody else's business
        built = build.rebuild(folder)
    if path is not None:
        checkpoint_state.read_state(path)
        checkpoint.load_model(path, built.method)
    return Encoders(
        method=built.method.eval(),
        video=built.method.video,
        audio=built.method.audio,
        view=built.view,
        view_settings=built.view_settings,
        shards=str(facts["shards"]),
        checkpoint=path,
        own_mel=facts.get("mel") or {},
    )


def _folder(place: str | Path) -> Path:
    """A run's folder: here, or in the Hub's cache once it was fetched."""
    if isinstance(place, Path) or not hub.is_hub(place):
        return Path(place)
    return hub.fetch(hub.parse(place), most_bytes=MOST_BYTES, most_files=MOST_FILES)
