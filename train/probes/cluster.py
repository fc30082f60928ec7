"""Clustering: whether k-means clusters match the classes.

Video and audio are L2-normalized before concatenation. Two scores in percent, of both modalities together and of each:

* NMI: mutual information of clusters and classes, over the mean of their entropies.
* ACC: fraction of clips whose cluster matches their class, under the best one-to-one assignment of clusters to classes.

There are no intervals: duplicates of a clip in a bootstrap sample share its cluster, which would inflate both scores.

The chance level of both is above 0: "nmi_chance" and "acc_chance" are means over random clusters of the same sizes. Shape
suffixes as in `probes`, with K clusters.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from . import Features

NEEDS_TRAIN_FEATURES = False
DEALS = 20
"""Number of random assignments to estimate chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """k-means options."""

    features: Literal["pooled", "embedding"] = "pooled"
    """pooled: encoder output. embedding: output of the projection head, as compared by the run's loss."""
    clusters: int | None = None
    """Number of clusters, at most the number of clips. Default: the number of classes."""
    restarts: int = 10
    """Number of k-means runs; the one with the lowest inertia counts."""
    seed: int = 0
    """Seed of the initial centers."""

    def __post_init__(self) -> None:
        """Raise ValueError for values out of range."""
        if self.clusters is not None and self.clusters < 1:
            raise ValueError(f"--cluster.clusters {self.clusters}: must be at least 1")
        if self.restarts < 1:
            raise ValueError(f"--cluster.restarts {self.restarts}: must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--cluster.seed {self.seed}: must be from 0 to below 2**32")


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Cluster `on` (`fit` is unused): "nmi", "acc", "nmi_chance" and "acc_chance", also with "video_" and "audio_"."""
    label_N = on.label_N.numpy(force=True)
    clusters = len(np.unique(label_N)) if settings.clusters is None else settings.clusters
    # k-means draws its initial centers by row: make them independent of the order of clips.
    order_N = np.argsort(np.array(on.keys))
    label_N = label_N[order_N]
    metrics: dict[str, float] = {}
    for prefix, on_ND in on.sides(unit=True):
        cluster_N = k_means(on_ND[order_N], clusters=min(clusters, len(on_ND)), settings=settings)
        metrics |= {
            f"{prefix}{name}": score for name, score in agreement(label_N, cluster_N, seed=settings.seed).items()
        }
    return metrics


def agreement(label_N: np.ndarray, cluster_N: np.ndarray, *, seed: int) -> dict[str, float]:
    """NMI and ACC in percent of clusters (N,) and labels (N,), and of random clusters of the same sizes."""
    rng, metrics = np.random.default_rng(seed), dict[str, float]()
    dealt = [rng.permutation(cluster_N) for _ in range(DEALS)]
    for name, score in (("nmi", nmi), ("acc", clustering_accuracy)):
        metrics[name] = 100 * score(label_N, cluster_N)
        metrics[f"{name}_chance"] = 100 * float(np.mean([score(label_N, each_N) for each_N in dealt]))
    return metrics


def k_means(on_ND: Tensor, *, clusters: int, settings: Settings) -> np.ndarray:
    """Cluster index of each row of (N, D): (N,)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # A collapsed encoder has fewer distinct features than clusters; its scores show it.
        warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
        found = KMeans(clusters, n_init=settings.restarts, random_state=settings.seed).fit(on_ND.numpy(force=True))
    cluster_N: np.ndarray = found.labels_
    return cluster_N


def nmi(label_N: np.ndarray, cluster_N: np.ndarray) -> float:
    """Normalized mutual information in [0, 1] of two labelings (N,); 1 if both are constant."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(label_N, cluster_N, average_method="arithmetic"))


def clustering_accuracy(label_N: np.ndarray, cluster_N: np.ndarray) -> float:
    """Accuracy in [0, 1] of two labelings (N,) under the best one-to-one assignment of their values."""
    from scipy.optimize import linear_sum_assignment

    _, class_N = np.unique(label_N, return_inverse=True)
    _, group_N = np.unique(cluster_N, return_inverse=True)
    count_CK = np.zeros((class_N.max() + 1, group_N.max() + 1), dtype=np.int64)
    np.add.at(count_CK, (class_N, group_N), 1)
    return float(count_CK[linear_sum_assignment(count_CK, maximize=True)].sum() / len(label_N))
