"""Input of packing: the clips in the order of the samples, and the fingerprint of everything that determines the bytes."""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinetics_sounds.address import Address
from kinetics_sounds.clip import Outcome, labels_text
from kinetics_sounds.manifest import Manifest
from kinetics_sounds.media import encode
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import Index, SkippedClip

from ..attempts import Refused
from . import encode_sample
from .encode_sample import Packing

OTHER = (
    "contains shards of another manifest, settings or ffmpeg version; choose another --out (with --dataset: give --manifest "
    "data/OTHER), or delete it to rebuild them"
)

Made = dict[str, bytes] | SkippedClip | Refused
"""Result for a clip."""
WholeShards = Mapping[int, Index]
"""Existing complete shards of a split, by number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Input of packing, and where to write."""

    made: Manifest
    orders: Mapping[str, Sequence[Outcome]]
    """Ok clips of each non-empty split, in the order of the samples; a set with folds has the split `ALL` alone."""
    packing: Packing
    recipe: str
    """Fingerprint of everything that determines the shards' bytes."""
    shard_bytes: int
    out: Path
    url: Address | None
    """URL to upload the set to."""


def clip_order(made: Manifest, split: str, seed: int) -> list[Outcome]:
    """The split's ok clips in shuffled order, a function of the keys and the seed alone."""
    usable = [outcome for outcome in made.outcomes if outcome.media is not None and outcome.clip.split == split]
    usable.sort(key=lambda outcome: outcome.clip.key)
    lots = np.random.default_rng([seed, zlib.crc32(split.encode())]).permutation(len(usable))
    return [usable[lot] for lot in lots]


def modality(made: Manifest) -> encode.Modality:
    """What is stored of every clip: what all ok clips of a data set have; of a build, picture and sound."""
    media = [outcome.media for outcome in made.outcomes if outcome.media is not None]
    if made.folds is None or not media:
        return "both"
    picture, sound = all(each.num_frames for each in media), all(each.audio_rate for each in media)
    return "video" if picture and not sound else "audio" if sound and not picture else "both"


def _decisive(outcome: Outcome) -> tuple[str | None, ...]:
    """The facts about a clip that determine its sample's bytes."""
    clip, media = outcome.clip, outcome.media
    channel = () if media is None or media.audio_channel in ("", encode.MIX) else (media.audio_channel,)
    folds = (",".join(clip.folds),) if clip.folds else ()
    labels = (labels_text(clip.labels),) if clip.other_labels else ()
    return clip.key, clip.label, media and media.sha256, *channel, *folds, *labels


def recipe(orders: Mapping[str, Sequence[Outcome]], labels: Sequence[str], packing: Packing, shard_bytes: int) -> str:
    """Fingerprint of everything that determines the shards' bytes."""
    clips = [_decisive(outcome) for each in orders.values() for outcome in each]
    facts = [layout.SCHEMA, clips, labels, encode_sample.recipe(packing), shard_bytes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
