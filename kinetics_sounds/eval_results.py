"""What ks-eval, ks-view and ks-publish agree on about a results.json."""

from collections.abc import Mapping
from typing import Any

OF_TRAINED = ("gate", "amfm")
"""Settings of fine-tuning that untrained encoders never have: the gate comes from training."""


def without_gate(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result without the settings `OF_TRAINED`: a trained one and its baseline have all others in common."""
    settings = result.get("settings")
    if not isinstance(settings, dict):
        return dict(result)
    return {**result, "settings": {name: value for name, value in settings.items() if name not in OF_TRAINED}}


def is_chosen(metric: str) -> bool:
    """Whether a metric is the chosen C of an SVM, such as `video_c`, or `selected_on_test`, and no score."""
    return metric == "selected_on_test" or metric.rpartition("_")[2] == "c"
