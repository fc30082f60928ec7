"""Clustering: whether k-means, which sees no labels, finds the classes.

Video and audio are scaled to length 1 before they are joined, so that both count the same. Two scores in percent, from
both modalities and from each alone:

* NMI: mutual information of clusters and classes, over the mean of their entropies.
* ACC: share of clips whose cluster stands for their class, under the best pairing of clusters with classes, one to one.

There are no intervals: a resample's doubles of a clip share its cluster, so that a bootstrap would flatter both scores.

Neither is 0 by chance: "nmi_chance" and "acc_chance" are means over clusters of the same sizes, dealt out at random.
Shape suffixes as in `probes`, with K clusters.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from . import Features

FITS = False
DEALS = 20
"""Random assignments whose mean score is chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How clusters are found."""

    features: Literal["pooled", "embedding"] = "pooled"
    """pooled: features of the encoders. embedding: the output of the projection head, which the loss of the run compares."""
    clusters: int | None = None
    """Number of clusters; default: as many as the split has classes. At most all clips of the split."""
    restarts: int = 10
    """Runs of k-means, of which the tightest counts."""
    seed: int = 0
    """Decides the first centres of the runs."""

    def __post_init__(self) -> None:
        """Raise ValueError for fewer than one cluster or run, and a seed that NumPy does not take."""
        if self.clusters is not None and self.clusters < 1:
            raise ValueError(f"--cluster.clusters {self.clusters}: must be at least 1")
        if self.restarts < 1:
            raise ValueError(f"--cluster.restarts {self.restarts}: must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--cluster.seed {self.seed}: must be from 0 to below 2**32")


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Cluster `on`; `fit` is not used: "nmi", "acc", "nmi_chance" and "acc_chance", also with "video_" and "audio_"."""
    label_N = on.label_N.numpy(force=True)
    clusters = len(np.unique(label_N)) if settings.clusters is None else settings.clusters
    # k-means draws its first centres by row: the clips of a shuffled split must find the same ones.
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
    """How well clusters (N,) fit labels (N,), in percent, and clusters of the same sizes that are dealt out at random."""
    rng, metrics = np.random.default_rng(seed), dict[str, float]()
    dealt = [rng.permutation(cluster_N) for _ in range(DEALS)]
    for name, score in (("nmi", nmi), ("acc", clustering_accuracy)):
        metrics[name] = 100 * score(label_N, cluster_N)
        metrics[f"{name}_chance"] = 100 * float(np.mean([score(label_N, each_N) for each_N in dealt]))
    return metrics


def k_means(on_ND: Tensor, *, clusters: int, settings: Settings) -> np.ndarray:
    """Cluster of each row of (N, D), as integers below `clusters`: (N,)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Of a collapsed encoder, which has fewer distinct features than clusters; its scores say so.
        warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
        found = KMeans(clusters, n_init=settings.restarts, random_state=settings.seed).fit(on_ND.numpy(force=True))
    cluster_N: np.ndarray = found.labels_
    return cluster_N


def nmi(label_N: np.ndarray, cluster_N: np.ndarray) -> float:
    """Mutual information of two labellings (N,) over the mean of their entropies, in [0, 1]; 1 where both have one value."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(label_N, cluster_N, average_method="arithmetic"))


def clustering_accuracy(label_N: np.ndarray, cluster_N: np.ndarray) -> float:
    """Share in [0, 1] of rows of two labellings (N,) that agree under the best one-to-one pairing of their values."""
    from scipy.optimize import linear_sum_assignment

    _, class_N = np.unique(label_N, return_inverse=True)
    _, group_N = np.unique(cluster_N, return_inverse=True)
    count_CK = np.zeros((class_N.max() + 1, group_N.max() + 1), dtype=np.int64)
    np.add.at(count_CK, (class_N, group_N), 1)
    return float(count_CK[linear_sum_assignment(count_CK, maximize=True)].sum() / len(label_N))
