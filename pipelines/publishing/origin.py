"""Where a dataset's clips and annotations come from, and what its documents say of that."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from kinetics_sounds import classes
from kinetics_sounds.clip import Outcome
from kinetics_sounds.clip_names import ONE_OF_SEVERAL

from .. import several_splits

YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]")
"""ID of a YouTube video: 64 bits in base 64, of which the last character holds four."""
ONLY_YOUTUBE = ("youtube", "cvdf")
"""Sources that have no other videos than those of YouTube."""
IN_DIR = (
    "DIR has the videos; whole videos: add --local.trimmed no; files that are the clips themselves: --local.trimmed yes"
)
"""What DIR is in a command with --source local:DIR."""
YOUTUBE_TERMS = "https://www.youtube.com/t/terms"
"""Terms of use of YouTube's videos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the documents say of a dataset of this origin."""

    prefix: str
    """Before the dataset's name in its title."""
    of: str
    """Whose the clips are, after the word "clips"; empty if that is not known."""
    tags: tuple[str, ...]
    """Tags and keywords besides those of every dataset."""
    rights: str
    """Under whose terms the videos are, and whose the annotations are."""
    media: str
    """What restricts the sharing of media."""
    removal: str
    """How a person's row is removed."""
    terms: str
    """URL of the videos' terms; empty if there is none."""
    cites_kinetics: bool
    """Whether the works on Kinetics and Kinetics-Sounds are cited."""
    purpose: str
    whole: str
    """What larger set it is a sample of."""
    acquired: str
    annotators: str
    timeframe: str
    self_contained: str
    people: str
    """What is known of consent."""
    revoking: str
    biases: str
    uses: str
    sensitive: str
    """What personal information there is."""
    key: str
    """What a clip's key identifies."""


_TO_REMOVE = (
    "To have a row removed, contact the publisher (for example in the Discussions of this page): it is removed in the next "
    "version."
)
_YOUTUBE_REMOVAL = (
    "The lists name public videos by their ids. A video belongs to its uploader, and may show people who did not agree "
    f"to be in a dataset. {_TO_REMOVE}"
)
_YOUTUBE_MEDIA = "YouTube's terms and the rights of the videos' authors restrict sharing them"
_NOT_KNOWN = "Not known."

KINETICS = Origin(
    prefix="Kinetics-Sounds ",
    of=" of Kinetics",
    tags=("kinetics", "kinetics-sounds", "youtube"),
    rights=(
        f"The videos that the ids lead to are under the terms of YouTube ({YOUTUBE_TERMS}) and of whoever made them. The "
        "annotations are those of Kinetics, which their authors publish under Creative Commons Attribution 4.0."
    ),
    media=_YOUTUBE_MEDIA,
    removal=_YOUTUBE_REMOVAL,
    terms=YOUTUBE_TERMS,
    cites_kinetics=True,
    purpose="To identify the clips of Kinetics used by audio-visual studies, and which of them still exist, so that others can "
    "build the same dataset.",
    whole="Yes: of Kinetics",
    acquired="Annotations are those of Kinetics. Clips were taken from copies on a disk, a public mirror, or YouTube",
    annotators="Of Kinetics: crowd workers, see its paper. Else not known.",
    timeframe="Of Kinetics: up to 2017. Of this build: not known.",
    self_contained="No: the videos are hosted elsewhere and may vanish at any time.",
    people="No.",
    revoking=f"An uploader may remove the video, which ends its use here. {_YOUTUBE_REMOVAL}",
    biases="Videos and labels reflect who uploads to YouTube and what was searched for.",
    uses="Audio-visual self-supervised learning and action recognition, in the papers that use Kinetics-Sounds.",
    sensitive="Ids of public YouTube videos that show people, whose owners may remove them.",
    key="A key is a video on YouTube and its span.",
)
YOUTUBE = Origin(
    prefix="",
    of=" of YouTube videos",
    tags=("youtube",),
    rights=(
        f"The videos that the ids lead to are under the terms of YouTube ({YOUTUBE_TERMS}) and of whoever made them. The "
        "annotations are those of whoever made the list, whose terms hold for them."
    ),
    media=_YOUTUBE_MEDIA,
    removal=_YOUTUBE_REMOVAL,
    terms=YOUTUBE_TERMS,
    cites_kinetics=False,
    purpose=_NOT_KNOWN,
    whole="Yes: of the videos on YouTube",
    acquired="Annotations are those of a list given to ks-build. Clips were taken from copies on a disk, a mirror, or YouTube",
    annotators=_NOT_KNOWN,
    timeframe=_NOT_KNOWN,
    self_contained=KINETICS.self_contained,
    people=_NOT_KNOWN,
    revoking=KINETICS.revoking,
    biases=KINETICS.biases,
    uses=_NOT_KNOWN,
    sensitive=KINETICS.sensitive,
    key=KINETICS.key,
)
OWN = Origin(
    prefix="",
    of="",
    tags=(),
    rights="The videos that the ids name, and the annotations, are under the terms of whoever made them.",
    media="The rights of their authors, and of the people shown, may restrict sharing them",
    removal=f"A video belongs to whoever made it, and may show people who did not agree to be in a dataset. {_TO_REMOVE}",
    terms="",
    cites_kinetics=False,
    purpose=_NOT_KNOWN,
    whole=_NOT_KNOWN,
    acquired="Annotations are those of a list given to ks-build. Clips were taken from the videos that it names",
    annotators=_NOT_KNOWN,
    timeframe=_NOT_KNOWN,
    self_contained="No: the videos are kept elsewhere.",
    people=_NOT_KNOWN,
    revoking=_TO_REMOVE,
    biases=_NOT_KNOWN,
    uses=_NOT_KNOWN,
    sensitive="The videos may show people.",
    key="A key is a file's name and its span, whatever the file shows: only content tells another video of the same name.",
)


_KINETICS_SHARE = 1 / 3
"""Least share of clips with labels of Kinetics-400 in a set of Kinetics; versions 600 and 700 have half of theirs from it."""


def origin_of(outcomes: Iterable[Outcome]) -> Origin:
    """What the documents say of clips of Kinetics, of other YouTube videos, of one's own, or of several of these.

    Told by the contents, since an annotation file of one's own looks like one of Kinetics. Files of a folder or an archive are
    YouTube's only if most of their names are such IDs: of names of eleven letters every fourth fits by chance. Labels that
    Kinetics-400 lacks are of its later versions, or of another list of YouTube's: both are said then, if there are also many of
    Kinetics-400.
    """
    known = frozenset(classes.read("k400").labels)
    counts = Counter(
        (
            _kind(each) in ONLY_YOUTUBE,
            bool(YOUTUBE_ID.fullmatch(each.clip.youtube_id)),
            known.issuperset(each.clip.labels),
        )
        for each in outcomes
    )
    files = {fits: counts[False, fits, True] + counts[False, fits, False] for fits in (True, False)}
    trusted = (True, False) if files[True] > files[False] else (True,)
    kinetics = sum(counts[sure, True, True] for sure in trusted)
    fit = kinetics + sum(counts[sure, True, False] for sure in trusted)
    if not fit:
        return OWN
    of_kinetics = kinetics > _KINETICS_SHARE * fit
    found = [KINETICS] if of_kinetics else []
    found += [YOUTUBE] if not of_kinetics or kinetics < fit else []
    found += [OWN] if counts.total() > fit else []
    return _all_of(found) if len(found) > 1 else found[0]


def _kind(outcome: Outcome) -> str:
    """Name of the source that provided a clip, without its place."""
    return outcome.source.partition(":")[0]


def shared_names(outcomes: Iterable[Outcome]) -> str:
    """How many clips are of files whose names other files had too, and what that means; empty if none is."""
    count = sum(ONE_OF_SEVERAL in each.detail for each in outcomes if each.media)
    are = "clip is" if count == 1 else "clips are"
    told = f"{count} ok {are} of a file whose name another, different file had too: rebuilt elsewhere, it may be the other one"
    return told if count else ""


def split_leak(outcomes: Iterable[Outcome]) -> str:
    """How many videos have ok clips in more than one split, and what that means; empty if none has."""
    there = [each for each in outcomes if each.media]
    found = several_splits.in_several_splits(each.clip for each in there)
    names = {each.clip.youtube_id for each in there if ONE_OF_SEVERAL in each.detail}
    shared = several_splits.in_several_splits(each.clip for each in there if each.clip.youtube_id in names)
    several = f"; {shared['videos']} of these may be several videos of one name" if shared else ""
    return f"{several_splits.text(found)}{several}" if found else ""


def rebuilt_from(outcomes: Iterable[Outcome], origin: Origin) -> str:
    """What follows `ks-build --clips FOLDER` in the command that builds these clips again; empty if YouTube has them."""
    if origin is OWN:
        return f" --source local:DIR    # {IN_DIR}"
    return " --source cvdf --source youtube" if "cvdf" in {_kind(each) for each in outcomes if each.media} else ""


def _all_of(found: Sequence[Origin]) -> Origin:
    """Each text of these origins, after the name of what it is about where they differ."""
    names = [origin.of.removeprefix(" of ") or "other videos" for origin in found]

    def text(name: str) -> str:
        told = [str(getattr(origin, name)) for origin in found]
        if len(set(told)) == 1:
            return told[0]
        parts = [
            one if one.startswith(f"Of {of}: ") else f"Of {of}: {one}" for of, one in zip(names, told, strict=True)
        ]
        return (" " if told[0].endswith(".") else "; ").join(parts)

    texts = {each.name: text(each.name) for each in fields(Origin) if each.name not in ("tags", "cites_kinetics")} | {
        "prefix": found[0].prefix,
        "of": f" of {' and of '.join(names)}",
        "terms": found[0].terms,
    }
    return Origin(
        **texts,
        tags=tuple(dict.fromkeys(tag for origin in found for tag in origin.tags)),
        cites_kinetics=any(origin.cites_kinetics for origin in found),
    )
