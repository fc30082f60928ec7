"""Trained encoders with their preprocessing, as returned by `kinetics_sounds.train.load`.

Shape suffixes: B inputs, C channels, T frames (of a mel-spectrogram: columns), H and W pixels, F mel bands, D feature channels.
"""

import dataclasses
import logging
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
from kinetics_sounds.errors import RunError, SettingsError, ShardError
from kinetics_sounds.shards import layout, reader
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Meta, Sample

from ..config import run_folder
from ..config.settings import missing_module
from ..distributed import launch
from ..engine import build, checkpoint, checkpoint_state, run_result
from ..engine.build import EncodersOnly
from ..interface import Method

log = logging.getLogger("kinetics_sounds")

MOST_BYTES = {
    "config.yaml": MOST_CONFIG_BYTES,
    "run.json": run_folder.MOST_BYTES,
    "checkpoints/*/state.json": run_folder.MOST_BYTES,
    "checkpoints/*/model.safetensors": 8 << 30,
}
"""Files to read from a run, also on the Hub, with the maximum size of each."""
MOST_FILES = 42
"""Maximum files of a run on the Hub: twenty checkpoints."""

if TYPE_CHECKING:
    from kinetics_sounds.media.mel import Mel  # importing librosa is slow


_LACKS = {
    "video": 'sound; for features of its pictures: encoders.video(encoders.preprocess(sample, clips=10)["video"]).mean(dim=0)',
    "audio": "pictures; to evaluate the audio encoder on sounds: ks-eval sounds --folder FOLDER",
}
"""What a set of one modality lacks, and what can be done with it."""
FPS = 25.0
"""Frame rate of the black frames that accompany a sound, for views that place it in a video."""
LOUDEST = 2.0
"""Maximum amplitude of floating-point audio, which decoding or resampling may push above 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawClip:
    """A clip of your own, which views read like a `stream.Sample` of the shards.

    Raises ValueError if the frames are not uint8 (T, H, W, 3), the frame rate is not positive, the mel is not (F, T) in [0, 1],
    or the sound is not mono floating point, finite and in [-1, 1] (amplitudes up to 2 are accepted).
    """

    frames_THWC: np.ndarray
    """uint8 (T, H, W, 3), RGB; frames smaller than the view's crop are upscaled."""
    fps: float
    """Frames per second."""
    mel_FT: np.ndarray | None = None
    """Mel-spectrogram of the whole sound in [0, 1], low bands first, as made by `Encoders.mel_image`."""
    sound: np.ndarray | None = None
    """Mono float32 (samples,) in [-1, 1] at the shards' 24 kHz (librosa.load(path, sr=24000)), for views that read the
    waveform; starts with the first frame."""
    of: Dataset | None = None
    """Shard set whose parameters to use (`encoders.dataset`), for views that compute mel-spectrograms."""
    key: str = "raw"
    """Name in messages."""

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
        if self.sound is not None:
            _check_sound(self.sound)

    @property
    def meta(self) -> Meta:
        """Metadata like a stored sample's."""
        samples = 0 if self.sound is None else len(self.sound)
        return Meta(num_frames=len(self.frames_THWC), fps=self.fps, audio_samples=samples)

    @property
    def dataset(self) -> Dataset:
        """Shard set whose parameters to use; raises ValueError if not given."""
        if self.of is None:
            raise ValueError(f"{self.key}: the view makes a mel-spectrogram; give of=encoders.dataset")
        return self.of

    def frames(self, numbers: Sequence[int], *, decoder: str = "auto") -> np.ndarray:
        """Frames at these indices, in order: uint8 (len(numbers), H, W, 3)."""
        return self.frames_THWC[list(numbers)]

    def mel(self) -> np.ndarray:
        """The mel-spectrogram (F, T); raises ValueError if not given."""
        if self.mel_FT is None:
            raise ValueError(f"{self.key}: the view reads a mel-spectrogram; give mel_FT=encoders.mel_image(waveform)")
        return self.mel_FT

    def waveform(self, *, first: int = 0, count: int | None = None) -> np.ndarray:
        """`count` audio samples starting at `first`; raises ValueError if no sound was given."""
        if self.sound is None:
            raise ValueError(f"{self.key}: the view reads the sound itself; give sound=waveform")
        return self.sound[first : None if count is None else first + count]


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoders:
    """Video and audio encoder in evaluation mode, with their preprocessing."""

    method: Method
    """The method that owns both encoders, with its other weights (projection head, gate, classifier); without these if it is
    not installed."""
    video: nn.Module
    """float32 (B, C, T, H, W) to (B, D)."""
    audio: nn.Module
    """float32 (B, C, T, H, W) to (B, D)."""
    view: ModuleType
    """Module of `views` that renders a clip."""
    view_settings: Any
    """Settings of the view in training."""
    shards: str
    """Folder or URL of the shard set that the run was trained on."""
    checkpoint: Path | None
    """Checkpoint folder of the weights; None: initial weights."""
    own_mel: Mapping[str, Any]
    """Mel-spectrogram parameters recorded by the run; empty for older runs."""
    lacks: tuple[str, ...] = ()
    """Modules of the method that have no trained weights, because their authors published none."""

    @property
    def device(self) -> torch.device:
        """Device of the weights; move them with `encoders.method.to("cuda")`."""
        return next(self.method.parameters()).device

    def whole_method(self) -> Method:
        """The method with all its weights; raises RunError if it is not installed."""
        if isinstance(self.method, EncodersOnly):
            raise RunError(missing_module("method", self.method.name))
        return self.method

    def preprocess(self, sample: Sample | RawClip, *, clips: int = 1) -> dict[str, Tensor]:
        """Encoder inputs of a clip for evaluation: "video" (clips, C, T, H, W), evenly spaced, and "audio".

        "audio" is one for all clips (1, C, T, H, W), or one per clip (clips, C, T, H, W), depending on the view; there is none
        for a sample of a set of pictures alone. Raises like the sample if a part is missing or damaged.
        """
        settings = of_pictures(self.view_settings, sample.dataset) if isinstance(sample, Sample) else self.view_settings
        views = self.view.eval_views(sample, settings, clips)
        arrays = {name: value[None].to(self.device) for name, value in views.items()}
        return {name: value[0] for name, value in self.view.augment(arrays, settings).items()}

    @torch.no_grad()
    def features(self, sample: Sample | RawClip, *, clips: int = 10) -> tuple[Tensor, Tensor]:
        """Pooled features of a clip: video, averaged over evenly spaced `clips`, and audio, averaged likewise: (D,) each.

        They are taken before any gate or projection head, as in `ks-eval`. Raises ShardError for a sample of a set of pictures
        or of sounds alone.
        """
        if isinstance(sample, Sample) and (lacks := _LACKS.get(sample.dataset.modality)):
            raise ShardError(f"{sample}: its set has no {lacks}")
        inputs = self.preprocess(sample, clips=clips)
        return self.video(inputs["video"]).mean(dim=0), self.audio(inputs["audio"]).mean(dim=0)

    @cached_property
    def dataset(self) -> Dataset:
        """Description of the run's shard set; raises ShardError if it is not reachable.

        Raises RunError if the shards are at a URL, which is not opened on behalf of a run; use
        `reader.read_dataset(encoders.shards)`.
        """
        return reader.read_dataset(run_folder.shards_of({"shards": self.shards}))

    @cached_property
    def mel(self) -> "Mel":
        """Mel-spectrogram parameters of the run's shards; raises MediaError for invalid ones.

        For older runs they are read from the shard set; raises like `dataset`.
        """
        from kinetics_sounds.media.mel import of_set

        return of_set(self.own_mel or self.dataset.mel)

    def mel_image(self, waveform: np.ndarray) -> np.ndarray:
        """Mel-spectrogram of a waveform, as stored in the run's shards: float16 (F, T).

        `waveform` is mono float32 (samples,) at `mel.sample_rate` hertz, full scale 1. Raises like `mel`, and ValueError for
        another shape or range.
        """
        from kinetics_sounds.media.mel import mel_image

        _check_sound(waveform)
        return mel_image(waveform, self.mel).astype(np.float16)

    def sound_alone(self, waveform: np.ndarray) -> RawClip:
        """A clip of a sound (mono float32 at `mel.sample_rate` hertz) with black frames, for the features of the audio encoder.

        Raises like `mel_image`, and like `dataset` for views that compute the mel-spectrogram themselves.
        """
        inputs = self.view.inputs(self.view_settings)
        stored = layout.MEL in inputs.parts
        frames = max(1, round(len(waveform) / self.mel.sample_rate * FPS))
        return RawClip(
            frames_THWC=np.broadcast_to(np.zeros((1, 16, 16, 3), dtype=np.uint8), (frames, 16, 16, 3)),
            fps=FPS,
            mel_FT=self.mel_image(waveform) if stored else None,
            sound=waveform,
            of=self.dataset if inputs.reads_mel and not stored else None,
            key="a sound",
        )


def _check_sound(sound: np.ndarray) -> None:
    """Raise ValueError for what is no waveform."""
    if sound.ndim != 1 or sound.dtype.kind != "f" or not sound.size:
        raise ValueError(
            f"the sound must be mono and float32 (samples,), got {sound.dtype} {sound.shape}: of several channels, give "
            "the mean"
        )
    if not np.isfinite(sound).all() or np.abs(sound).max() > LOUDEST:
        raise ValueError("the sound must be finite and in [-1, 1]: divide 16-bit samples by 32768")


def of_pictures(view_settings: Any, dataset: Dataset) -> Any:  # noqa: ANN401 - the view's own Settings
    """Settings of a view without sound, if the set has pictures alone and the view can do without."""
    if dataset.modality == "video" and hasattr(view_settings, "modality"):
        return dataclasses.replace(view_settings, modality="video")
    return view_settings


class EncoderSettings(Protocol):
    """Settings of a command that evaluates a run."""

    @property
    def run(self) -> Path:
        """Run folder."""
        ...

    @property
    def checkpoint(self) -> str:
        """Name of a checkpoint."""
        ...

    @property
    def untrained(self) -> bool:
        """Whether to use the initial weights."""
        ...


def load_selected(settings: EncoderSettings) -> Encoders:
    """Load the encoders that the settings select; raises SettingsError for contradictory options, else like `load`."""
    return load(settings.run, selected_checkpoint(settings))


def selected_checkpoint(settings: EncoderSettings) -> str | None:
    """Name of the selected checkpoint, None for initial weights; raises SettingsError if both are selected.

    Says so on standard error if the run is not finished.
    """
    if settings.untrained and settings.checkpoint != "last":
        raise SettingsError(
            f"--untrained: evaluates initial weights, not --checkpoint {settings.checkpoint}; leave one out"
        )
    if settings.untrained:
        return None
    if launch.is_main():
        run_result.tell_unfinished(settings.run)
    return settings.checkpoint


def check_claims(folder: Path, path: Path | None) -> None:
    """Raise RunError if the run's settings do not match the shapes of its checkpoint, if there is one.

    Checked before the model is allocated: an untrusted run may claim any size.
    """
    facts = run_folder.read_facts(folder)
    try:
        outline = build.build_meta(run_folder.model_of(folder), run_folder.data_for_evaluation(facts))
    except SettingsError as error:
        raise RunError(f"{folder}: its config.yaml describes an invalid model: {error}") from error
    if isinstance(outline, EncodersOnly) and launch.is_main():
        log.warning(
            "%s: its method, %s, is not installed here; the encoders are loaded without it", folder, outline.name
        )
    if path is not None:
        checkpoint.check_shapes(path, outline, lacks=run_folder.lacks_of(facts), only=_weights_of(outline))


def _weights_of(method: Method) -> tuple[str, ...]:
    """Prefixes of the weights to load: all, or those of the encoders if the method is not installed."""
    return Method.INIT[:2] if isinstance(method, EncodersOnly) else ("",)


def load(place: str | Path, name: str | None = "last") -> Encoders:
    """Load the encoders of a run or of one of its checkpoints: see `kinetics_sounds.train.load`."""
    folder, own = _folder(place), None
    if (folder / "state.json").is_file():  # RUN/checkpoints/step-...
        folder, own = folder.absolute().parents[1], folder
    if own is not None and name not in ("last", None):
        raise RunError(f"{own}: is a checkpoint; to select {name!r}, give {folder}")
    facts = run_folder.read_facts(folder)
    path = None if name is None else own or checkpoint.find(folder / "checkpoints", name)
    check_claims(folder, path)
    with torch.random.fork_rng(devices=[]):  # drawing initial weights must not change the caller's random state
        built = build.rebuild(folder)
    if path is not None:
        checkpoint_state.read_state(path)
        checkpoint.load_model(path, built.method, lacks=run_folder.lacks_of(facts), only=_weights_of(built.method))
    return Encoders(
        method=built.method.eval(),
        video=built.method.video,
        audio=built.method.audio,
        view=built.view,
        view_settings=built.view_settings,
        shards=str(facts["shards"]),
        checkpoint=path,
        own_mel=facts.get("mel") or {},
        lacks=() if path is None else tuple(run_folder.lacks_of(facts)),
    )


def _folder(place: str | Path) -> Path:
    """Local folder of a run; a run on the Hub is downloaded to the Hub's cache."""
    if isinstance(place, Path) or not hub.is_hub(place):
        return Path(place)
    return hub.fetch(hub.parse(place), most_bytes=MOST_BYTES, most_files=MOST_FILES)
