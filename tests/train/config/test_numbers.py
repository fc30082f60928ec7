"""The constants of each method are those of its paper or code, by default, in Table IV's rows and in its recipe."""

import dataclasses
from typing import Any

import pytest

from kinetics_sounds import plugins
from kinetics_sounds.train import methods
from kinetics_sounds.train.config.settings import Optim, TrainSettings
from kinetics_sounds.train.models.heads import AmfmSettings

from ...shipped import read

DEFAULTS: dict[str, dict[str, Any]] = {
    "avcl": {
        "lambda_cor": 0.9,
        "lambda_self": 0.1,
        "off_diagonal_weight": 0.005,
        "temperature": 0.5,
        "center": True,
        "reduction": "sum",
        "amfm_stage": "pretrain",
        "cgra_layer": "pool",
        "amfm": dataclasses.asdict(AmfmSettings(gate="relu", shared_excitation=True, mid_activation="none")),
    },
    "supervised": {
        "modalities": "both",
        "gate": False,
        "classifier": "mlp",
        "hidden": 512,
        "dropout": 0.7,
        "feature_dropout": 0.0,
        "head_epochs": 0,
        "amfm": dataclasses.asdict(AmfmSettings()),
    },
    "simclr": {"mode": "cross", "dim": 128, "layers": 2, "batch_norm": False, "temperature": 0.1},
    "moco": {
        "mode": "cross",
        "head": "linear",
        "dim": 128,
        "queue": 65_536,
        "momentum": 0.999,
        "temperature": 0.07,
    },
    "byol": {"mode": "cross", "dim": 256, "hidden": 4096, "momentum": 0.99},
    "simsiam": {"mode": "cross", "dim": 2048, "hidden": 512},
    "barlow": {"mode": "cross", "dim": 2048, "off_diagonal_weight": 0.0051},
    "iic": {
        "mode": "cross",
        "negatives": 1024,
        "intra_negative": "repeat",
        "normalize_anchor": True,
        "temperature": 0.07,
        "bank_momentum": 0.5,
    },
    "avid": {
        "mode": "cross",
        "dim": 128,
        "hidden": 512,
        "negatives": 1024,
        "temperature": 0.07,
        "bank_momentum": 0.5,
        "scale": "paper",
    },
    "cma": {
        "dim": 128,
        "hidden": 512,
        "negatives": 1024,
        "temperature": 0.07,
        "bank_momentum": 0.5,
        "scale": "paper",
        "criterion": "min",
        "positives": 32,
        "mine_every": 50,
        "weight": 1.0,
        "negatives_within": 1024,
        "exclude_self": False,
    },
    "layerwise": {"modality": "video", "layers": "conv2,conv3,conv4,conv5", "features": 9216},
    "iicl": {
        "dim": 1024,
        "hidden": 512,
        "clusters": 400,
        "temperature": 0.5,
        "cluster_temperature": 0.5,
        "instance_weight": 1.0,
        "cluster_weight": 0.5,
        "first_stage": 300,
        "attention": True,
        "project": False,
        "shared_heads": True,
    },
    "crisscross": {
        "terms": "intra,sync,async",
        "dim": 2048,
        "hidden": 512,
        "projector_layers": 3,
        "predictor": "separate",
    },
}
"""Of AVCL methods 1.8 to 1.12, of those it compares with section 2, of AVID, CMA and their probe 3.2 to 3.6, of IICL 4, of
CrissCross 5; widths for features of 512."""

LARS = {"name": "lars", "momentum": 0.9, "decay_all": False, "schedule": "cosine", "weight_decay": 1e-6}
SGD = {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4}
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # rate 0.3 x batch / 256 and 10 epochs of warm-up, of 16,100 // 4,096 steps each
    "simclr_k32": (
        {"batch": 4096, "epochs": 100, "sync_bn": "on"},
        LARS | {"lr": 0.3 * 16, "warmup_steps": 10 * 3},
        {},
    ),
    "byol_k32": (
        {"batch": 4096, "epochs": 300, "sync_bn": "on"},
        LARS | {"lr": 0.3 * 16, "warmup_steps": 10 * 3},
        {},
    ),
    # rates 0.2 and 0.0048 x batch / 256, a cosine to a thousandth, 10 epochs of 16,100 // 2,048 steps of warm-up
    "barlow_k32": (
        {"batch": 2048, "epochs": 1000, "sync_bn": "on"},
        LARS | {"lr": 0.2 * 8, "warmup_steps": 10 * 7, "min_lr_ratio": 0.001, "one_dimensional": 0.0048 / 0.2},
        {},
    ),
    # rate 0.05 x batch / 256
    "simsiam_k32": (
        {"batch": 512, "epochs": 100, "sync_bn": "on"},
        SGD | {"lr": 0.05 * 2, "schedule": "cosine", "schedules": {"predictors.*": "constant"}},
        {},
    ),
    "moco_k32": (
        {"batch": 256, "epochs": 200, "sync_bn": "auto"},
        SGD | {"lr": 0.03, "schedule": "multistep", "milestones": (120 / 200, 160 / 200), "factor": 0.1},
        {"queue": 4096},
    ),
    "moco_k32_v2": (
        {"batch": 256, "epochs": 200, "sync_bn": "auto"},
        SGD | {"lr": 0.03, "schedule": "cosine"},
        {"queue": 4096, "head": "mlp", "temperature": 0.2},
    ),
    "iic_k32": (
        {"batch": 16, "epochs": 240, "sync_bn": "auto"},
        SGD
        | {
            "lr": 0.01,
            "schedule": "multistep",
            "factor": 0.2,
            "milestones": (45 / 240, 90 / 240, 125 / 240, 160 / 240),
        },
        {},
    ),
}
"""Of each recipe the run, the optimiser and what of the method is not its default (methods 2 and 2.1)."""

ROWS = ("simclr", "moco", "byol", "simsiam", "barlow", "iic")


def test_no_method_is_left_out() -> None:
    assert DEFAULTS.keys() == set(plugins.names(methods.__name__))


def method_settings(name: str) -> Any:
    return plugins.load(methods.__name__, name).Settings()


@pytest.mark.parametrize("name", DEFAULTS)
def test_by_default_a_method_is_its_paper_s(name: str) -> None:
    assert dataclasses.asdict(method_settings(name)) == DEFAULTS[name]


@pytest.mark.parametrize("data", ["k32", "k100"])
@pytest.mark.parametrize("name", ROWS)
def test_in_table_4_a_method_has_its_own_constants_and_avcl_s_setting(name: str, data: str) -> None:
    parsed = read(f"avcl_{data}_table4_{name}")
    queue = {"moco": {"queue": {"k32": 4096, "k100": 16_384}[data]}}

    assert dataclasses.asdict(parsed.groups[name]) == DEFAULTS[name] | queue.get(name, {})
    assert (parsed.settings.batch, parsed.settings.epochs) == (16, 300)
    assert parsed.settings.optim == Optim(name="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4, schedule="constant")


@pytest.mark.parametrize("name", RECIPES)
def test_in_its_own_recipe_a_method_has_its_own_setting(name: str) -> None:
    run, optim, changed = RECIPES[name]
    parsed = read(name)
    method = name.split("_")[0]
    found = dataclasses.asdict(parsed.settings.optim)
    expected = dataclasses.asdict(Optim()) | optim

    assert found.keys() == expected.keys()
    for number, value in expected.items():
        told = found[number]
        assert told == (pytest.approx(value) if isinstance(value, float | tuple) else value), number
    assert {each: getattr(parsed.settings, each) for each in run} == run
    assert (parsed.settings.method, parsed.settings.grad_accum_steps) == (method, TrainSettings().grad_accum_steps)
    assert dataclasses.asdict(parsed.groups[method]) == DEFAULTS[method] | changed
