"""What TensorBoard shows of a run."""

import tempfile
import warnings
from pathlib import Path


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: (step, value) by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn of their dependencies
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
    events = sorted((out / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    with tempfile.TemporaryDirectory() as folder:  # as they were written: their own names tell seconds, then a counter
        for number, path in enumerate(events):
            Path(folder, f"events.out.tfevents.{number:010d}").symlink_to(path.resolve())
        shown = EventAccumulator(folder)
        shown.Reload()
    return {tag: [(event.step, event.value) for event in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}
