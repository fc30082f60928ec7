"""ks-train bench: three speeds, and which of them bounds."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from kinetics_sounds.train import pretrain
from kinetics_sounds.train.engine.bench import Result, Speed, format_result

Argv = Callable[..., list[str]]
ACCOUNT = {
    "decode_ms_p50": 4.0,
    "decode_ms_p95": 6.0,
    "read_ms_p50": 0.5,
    "read_ms_p95": 0.6,
    "queue_depth": 3.9,
    "bad_samples": 0.0,
}


def result(loader: float, model: float, both: float) -> Result:
    speeds = [Speed(samples_per_second=each, wait_share=0.25) for each in (loader, model, both)]
    return Result(loader=speeds[0], model=speeds[1], both=speeds[2], account=ACCOUNT, peak_bytes=2_500_000_000)


@pytest.mark.parametrize(
    ("speeds", "bound"),
    [
        ((500, 100, 96), "the model"),
        ((100, 500, 96), "the loader"),
        ((100, 100, 60), "the cores"),
        ((80, 5, 1), "the cores"),
        ((100, 100, 95), "the model"),
    ],
)
def test_what_bounds_is_what_both_together_fall_behind(speeds: tuple[float, float, float], bound: str) -> None:
    """Together under 95% of each alone: they take the cores from each other."""
    assert result(*speeds).bound == bound
    assert f"bound by: {bound} (" in format_result(result(*speeds))


def test_all_is_told() -> None:
    text = format_result(result(500, 100, 96))

    assert "both:             96.0 samples/s, 96% of the model alone; 25% of the time waiting for data" in text
    assert "decode 4.0 ms (95%: 6.0), read 0.5 ms (95%: 0.6); 3.9 batches ready" in text
    assert "peak memory of the device: 2.50 GB" in text


@pytest.mark.parametrize("workers", [0, 1])
def test_it_measures_and_leaves_no_run_behind(
    workers: int, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench"

    assert pretrain.main(["bench", *small(out, f"--workers={workers}", "--seconds=0.2")]) == 0

    told_ = capsys.readouterr().out
    found = json.loads((out / "bench.json").read_bytes())
    assert min(found[f"{name}_samples_per_second"] for name in ("loader", "model", "both")) > 0
    assert found["bound"] in told_
    assert 0 <= found["data_wait_share"] <= 1
    assert [path.name for path in out.iterdir()] == ["bench.json"]
    assert multiprocessing.active_children() == []


def test_json_is_all_that_is_printed(small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench"

    assert pretrain.main(["bench", *small(out, "--seconds=0.1", "--json")]) == 0

    assert json.loads(capsys.readouterr().out) == json.loads((out / "bench.json").read_bytes())


def test_a_batch_larger_than_the_split_is_refused(
    small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(["bench", *small(tmp_path, "--batch=13")]) == 2

    assert (
        "ks-train bench: error: --batch 13: is larger than the split 'train', which has 12" in capsys.readouterr().err
    )
