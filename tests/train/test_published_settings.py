"""What `ks-publish run` lets through of a run's settings, beside what the trainer knows of them."""

from dataclasses import fields

from kinetics_sounds.pipelines.publishing import run_facts
from kinetics_sounds.train.config.settings import TrainSettings
from kinetics_sounds.train.engine import resume


def test_every_setting_that_decides_what_is_learnt_is_published() -> None:
    """With those that a run may change as it goes on, a published run says all but where and how it ran."""
    local = {*resume.FREE} - {
        "val_split",
        "epochs",
        "steps",
        "sync_bn",
        "compile",
        "activation_checkpointing",
        "channels_last",
        "max_bad_fraction",
    }

    assert {each.name for each in fields(TrainSettings)} - local == set(run_facts.CONFIG)
