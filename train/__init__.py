"""The trainer: the only folder that imports torch, and it does so when something is asked of it.

`load` gives back what a run has learnt:

    from kinetics_sounds import stream, train

    encoders = train.load("runs/avcl_k32")
    with stream.sample(stream.open_split("data/k32/shards", "test"), 0) as sample:
        video_D, audio_D = encoders.features(sample)
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .evaluation.encoders import Encoders

__all__ = ["load"]


def load(place: str | Path, checkpoint: str | None = "last") -> "Encoders":
    """The encoders of a run, in evaluation mode on the CPU, with the preprocessing that belongs to them.

    `place` is the folder of a run, of which `checkpoint` is "last", "best", a name such as "step-00000500", or None for
    the initial weights; or `place` is a checkpoint's own folder, or `hf://USER/NAME[@REVISION]`, a run that `ks-publish run`
    sent to the Hub. The whole way from a sample of the shards to features:

        encoders = train.load("runs/avcl_k32")
        with stream.sample(stream.open_split("data/k32/shards", "test"), 0) as sample:
            video_D, audio_D = encoders.features(sample)

    and from frames (uint8 THWC) and a waveform (mono float32 at `encoders.mel.sample_rate` hertz) of your own:

        from kinetics_sounds.train.evaluation.encoders import RawClip

        raw = RawClip(frames_THWC=frames_THWC, fps=25.0, mel_FT=encoders.mel_image(waveform))
        video_D, audio_D = encoders.features(raw)

    Raises RunError where the folder is no run, has no such checkpoint, or one that is damaged; RemoteError where the Hub gives
    none.
    """
    from .evaluation.encoders import load as load_encoders

    return load_encoders(place, checkpoint)
