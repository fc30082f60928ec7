"""Small folders of the shape of each data set, as it ships: two or three classes, a second of picture or sound a file."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from kinetics_sounds.media import ffmpeg, synthesize

FRAMES, FPS = 20, 10
RATE = 22_050
SECONDS = 1


def avi(path: Path, *, seed: int = 0, sound: bool = False) -> None:
    """A real AVI (MPEG-4) of two seconds, 64 x 48."""
    still = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    frames = np.stack([np.roll(still, step, axis=1) for step in range(FRAMES)])
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    mp4 = path.with_suffix(".made.mp4")
    synthesize.write_mp4(mp4, frames, tone.astype(np.float32), fps=FPS, sample_rate=RATE)
    opened = ffmpeg.source(mp4)
    streams = (opened.video, opened.audio) if sound else (opened.video,)
    codecs: dict[str, str | float] = {"acodec": "pcm_s16le"} if sound else {}
    ffmpeg.run(ffmpeg.sink(*streams, path=path, vcodec="mpeg4", format="avi", **codecs), timeout_seconds=30)
    mp4.unlink()


def wav(path: Path, *, hertz: float = 440.0, channels: int = 1) -> None:
    """A second of a tone."""
    tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(SECONDS * RATE) / RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([tone] * channels, axis=1), RATE)


def text(path: Path, lines: Sequence[str], *, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}{end}" for line in lines), newline="")


UCF_CLASSES = ("Archery", "HandstandPushups")


def ucf101(folder: Path) -> Path:
    """Two classes of three groups; the group of a fold's number is for testing in it. Line ends are those of the real lists."""
    made = folder / "one.avi"
    avi(made)
    names = []
    for label in UCF_CLASSES:
        for group in (1, 2, 3):
            file = label.replace("stand", "Stand")  # as the real files of this class are called
            names.append((f"{label}/v_{file}_g{group:02d}_c01.avi", group, UCF_CLASSES.index(label) + 1))
            path = folder / "UCF-101" / names[-1][0]
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made, path)
    made.unlink()
    lists = folder / "ucfTrainTestlist"
    text(lists / "classInd.txt", [f"{index} {label}" for index, label in enumerate(UCF_CLASSES, start=1)], end="\r\n")
    for fold in (1, 2, 3):
        text(lists / f"trainlist{fold:02d}.txt", [f"{n} {i}" for n, group, i in names if group != fold], end="\r\n")
        text(lists / f"testlist{fold:02d}.txt", [n for n, group, _ in names if group == fold], end="\r\n")
    return folder


HMDB_NAMES = {
    "brush_hair": ("a_brush_hair_u_0", "b_brush_hair_u_1"),
    "climb": ("#20_(climb)_u_0", "long_" * 30 + "climb_0"),
}


def hmdb51(folder: Path) -> Path:
    """Two classes of two files: the first for training and the second for testing, but that fold 3 leaves one out."""
    made = folder / "one.avi"
    avi(made)
    for label, names in HMDB_NAMES.items():
        for name in names:
            path = folder / "hmdb51_org" / label / f"{name}.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made, path)
        for fold in (1, 2, 3):
            codes = ("0" if (label, fold) == ("climb", 3) else "1", "2")
            lines = [f"{name}.avi {code} " for name, code in zip(names, codes, strict=True)]
            text(folder / "testTrainMulti_7030_splits" / f"{label}_test_split{fold}.txt", lines)
    made.unlink()
    return folder


ESC_CLASSES = {0: "dog", 5: "cat"}


def esc50(folder: Path) -> Path:
    """A recording of two classes in each of five folds."""
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, category in ESC_CLASSES.items():
            source = 1000 * fold + target
            name = f"{fold}-{source}-A-{target}.wav"
            rows.append(f"{name},{fold},{target},{category},True,{source},A")
            wav(folder / "audio" / name, hertz=200 + 40 * fold + target)
    text(folder / "meta/esc50.csv", rows)
    return folder


def dcase2014(folder: Path) -> Path:
    """Two scenes of two recordings for training and one for testing, in stereo, as deep as they are unpacked."""
    for scene in ("bus", "tubestation"):
        for number in (1, 2):
            wav(folder / f"set1/scenes_stereo/scenes_stereo/{scene}{number:02d}.wav", channels=2)
        wav(folder / f"set1/scenes_stereo_testset/scenes_stereo_testset/{scene}07.wav", channels=2)
    return folder


def dcase(folder: Path) -> Path:
    """Two scenes of two places in two folds: place 1 is for testing in the first fold, place 2 in the second."""
    rows = [
        (f"audio/{scene}_{place}.wav", scene, f"{scene[0]}00{place}") for scene in ("bus", "park") for place in (1, 2)
    ]
    for number, (name, _, _) in enumerate(rows):
        wav(folder / name, hertz=300 + 50 * number, channels=2)
    text(folder / "meta.txt", ["\t".join(row) for row in rows])
    for fold in (1, 2):
        own = {"evaluate": [row for row in rows if row[2].endswith(str(fold))]}
        own |= {"train": [row for row in rows if row not in own["evaluate"]], "test": own["evaluate"]}
        for what, those in own.items():
            text(
                folder / f"evaluation_setup/fold{fold}_{what}.txt",
                [name if what == "test" else f"{name}\t{scene}" for name, scene, _ in those],
            )
    return folder


def kinetics(folder: Path) -> Path:
    """Two classes with a file each for training and validation, with sound."""
    made = folder / "one.avi"
    avi(made, sound=True)
    for split in ("train", "validate"):
        for number, label in enumerate(("bowling", "playing accordion")):
            path = folder / split / label / f"-{split[:8]:_<9}{number}_000001_000003.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made, path)
    made.unlink()
    return folder
