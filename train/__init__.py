"""Training and evaluation: the only package that imports torch, and only when it is needed.

`load` returns the trained encoders of a run:

    from kinetics_sounds import stream, train

    encoders = train.load("runs/avcl_k32")
    with stream.sample(stream.open_split("data/k32/shards", "test"), 0) as sample:
        video_D, audio_D = encoders.features(sample)
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .evaluation.encoders import Encoders, RawClip
else:

    def __getattr__(name: str) -> type:
        """Import RawClip, and torch with it, on first use."""
        if name == "RawClip":
            from .evaluation.encoders import RawClip

            return RawClip
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["RawClip", "load"]


def load(place: str | Path, checkpoint: str | None = "last") -> "Encoders":
    """Load the encoders of a run, in evaluation mode on the CPU, with their preprocessing.

    `place` is a run folder, the folder of one checkpoint, or `hf://USER/NAME[@REVISION]`, a run that `ks-publish run` uploaded
    to the Hub. `checkpoint` selects a checkpoint of a run folder: "last", "best", a name such as "step-00000500", or None for
    the initial weights. From a sample of the shards to features:

        encoders = train.load("runs/avcl_k32")
        with stream.sample(stream.open_split("data/k32/shards", "test"), 0) as sample:
            video_D, audio_D = encoders.features(sample)

    From frames (uint8 THWC) and a waveform (mono float32 at `encoders.mel.sample_rate` hertz) of your own:

        raw = train.RawClip(frames_THWC=frames_THWC, fps=25.0, mel_FT=encoders.mel_image(waveform))
        video_D, audio_D = encoders.features(raw)

    The method of the run need not be installed: a warning says so, and `encoders.method` has the encoders alone. Raises
    RunError if the folder is not a run, the checkpoint is missing or damaged, or its backbone or view is not installed,
    RemoteError if the Hub cannot deliver it.
    """
    from .evaluation.encoders import load as load_encoders

    return load_encoders(place, checkpoint)
