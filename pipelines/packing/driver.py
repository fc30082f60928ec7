"""Pack one split: workers encode clips, and shards are written in order."""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from kinetics_sounds import progress
from kinetics_sounds.clip import Outcome
from kinetics_sounds.command import Stop
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import Index, SkippedClip
from kinetics_sounds.shards.writer import Sample, ShardWriter

from .. import attempts, executors
from ..attempts import TASK_SECONDS
from .encode_sample import Task
from .job import Job, Made, WholeShards


def pack_split(job: Job, split: str, kept: WholeShards, stop: Stop, pool: executors.Pool[Task, Made]) -> list[Index]:
    """All shards of one split in order, existing ones or newly written."""
    outcomes = job.orders[split]
    starts = _starts(outcomes, kept)
    indices: list[Index] = []
    position, results = 0, None
    done = sum(map(clip_count, kept.values()))
    with progress.bar(f"ks-shard {split}", len(outcomes), done=done, shown=done < len(outcomes)) as bar:
        while position < len(outcomes):
            number = len(indices)
            if starts.get(number) == position:
                indices.append(kept[number])
                position, results = position + clip_count(kept[number]), None
                continue
            results = results or _results(job, outcomes, position, starts.values(), pool, stop)
            with ShardWriter(layout.tar_path(job.out, split, number), recipe=job.recipe) as writer:
                for task, result in results:
                    position += 1
                    _add(writer, task, result)
                    bar.advance("packed" if isinstance(result, dict) else "left out")
                    if writer.bytes >= job.shard_bytes:
                        break
                else:
                    if position < len(outcomes):  # asked to stop: what is not a whole shard is made again
                        return indices
                indices.append(writer.close())
    return indices


def _starts(outcomes: Sequence[Outcome], kept: WholeShards) -> dict[int, int]:
    """Index of the first clip of each existing shard."""
    places = {outcome.clip.key: place for place, outcome in enumerate(outcomes)}
    keys = {number: [*each.keys, *(left.key for left in each.left)] for number, each in kept.items()}
    return {number: min((places.get(key, -1) for key in keys[number]), default=-1) for number in kept}


def clip_count(made: Index) -> int:
    """Number of clips processed for a shard, including skipped ones."""
    return len(made.keys) + len(made.left)


def _results(
    job: Job,
    outcomes: Sequence[Outcome],
    position: int,
    starts: Collection[int],
    pool: executors.Pool[Task, Made],
    stop: Stop,
) -> Iterator[tuple[Task, Made | executors.Failed]]:
    """Clips from `position` on with their results; clips of existing shards are only processed if requested."""
    label_index = {label: place for place, label in enumerate(job.made.classes.labels)}
    several = job.packing.several_labels
    ends = {start for start in starts if start > position} | {len(outcomes)}
    for first, end in pairwise([position, *sorted(ends)]):
        tasks = (
            Task(
                outcome=each,
                label_index=label_index[each.clip.label],
                packing=job.packing,
                label_indices=tuple(label_index[own] for own in each.clip.labels if own in label_index)
                if several
                else (),
            )
            for each in outcomes[first:end]
        )
        yield from executors.in_order(pool, tasks, timeout_seconds=TASK_SECONDS, stop=stop.__bool__)


def _add(writer: ShardWriter, task: Task, result: Made | executors.Failed) -> None:
    """Write the result for a clip.

    Raises ManifestError for what the user must fix first, StoppedError if the clip may not be at fault, and FaultError for a bug
    or a failing disk; in each case the clip stays pending.
    """
    key = task.outcome.clip.key
    attempts.check(key, result)
    if isinstance(result, SkippedClip):
        writer.leave(result)
    elif isinstance(result, dict):
        folds = dict(zip(task.packing.folds or (), task.outcome.clip.folds, strict=True))
        writer.write(
            Sample(
                key=key,
                label_index=task.label_index,
                parts=result,
                folds=folds,
                label_indices=task.label_indices,
            )
        )
