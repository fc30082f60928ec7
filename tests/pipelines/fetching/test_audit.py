"""What is measured on a clip against what its annotation says; every limit from both its sides."""

import dataclasses
from typing import Any

import pytest

from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.media.measure import Measured, misplaced, silent, still
from kinetics_sounds.media.probe import Span
from kinetics_sounds.pipelines.fetching.audit import audit

CLIP = Clip("a", 27, 37, "bowling", "val")


def span(first: float = 0.0, last: float = 10.0, covered: float | None = None) -> Span:
    filled = last - first if covered is None else covered
    return Span(count=300, first_seconds=first, last_seconds=last, covered_seconds=filled)


GOOD = Measured(
    video=span(),
    audio=span(),
    width=340,
    height=256,
    fps=30.0,
    audio_rms_db=-20.0,
    audio_offset_seconds=0.0,
    still_seconds=0.0,
    rotation=0,
    decode_errors=0,
    damaged_share=0.0,
)


def measured(**changes: Any) -> Measured:
    return dataclasses.replace(GOOD, **changes)


@pytest.mark.parametrize(
    "found",
    [
        GOOD,
        measured(video=span(0.1), audio=span(0.1)),
        measured(video=span(last=9.0)),  # nine tenths of the span
        measured(audio=span(0.09)),
        measured(video=span(last=11.0), audio=span(last=11.0)),
        measured(decode_errors=30, damaged_share=0.1),
        measured(audio_rms_db=-200.0, still_seconds=10.0),  # flags, and no fault
        measured(audio_offset_seconds=0.9),  # of the source; the cut filled it in
    ],
)
def test_a_clip_that_holds_its_span_is_ok(found: Measured) -> None:
    assert audit(CLIP, found, min_coverage=0.9) == (Status.OK, "")


@pytest.mark.parametrize(
    ("found", "status", "detail"),
    [
        (measured(audio=None), Status.NO_AUDIO, "its sound stream holds no samples"),
        (measured(video=span(0.3), audio=span(0.3)), Status.CORRUPT, "the first frame is at 0.30 s, not at 0"),
        (measured(audio=span(0.2)), Status.CORRUPT, "the sound begins +0.20 s from the picture"),
        (measured(video=span(0.2)), Status.CORRUPT, "the sound begins -0.20 s from the picture"),
        (measured(video=span(last=11.1)), Status.CORRUPT, "it ends at 11.10 s, after the 10 s requested"),
        (measured(audio=span(last=60.0)), Status.CORRUPT, "it ends at 60.00 s, after the 10 s requested"),
        (measured(video=span(covered=8.9)), Status.TOO_SHORT, "the picture covers 8.90 s of the 10 s requested"),
        (measured(audio=span(covered=8.9)), Status.TOO_SHORT, "the sound covers 8.90 s of the 10 s requested"),
        (measured(decode_errors=33, damaged_share=0.11), Status.CORRUPT, "33 decoding errors, 11% of picture or sound"),
    ],
)
def test_what_is_wrong_is_named(found: Measured, status: Status, detail: str) -> None:
    assert audit(CLIP, found, min_coverage=0.9) == (status, detail)


def test_how_much_may_be_missing_is_asked_for() -> None:
    half = measured(video=span(last=5.0), damaged_share=0.5)

    assert audit(CLIP, half, min_coverage=0.5)[0] is Status.OK
    assert audit(CLIP, half, min_coverage=0.6)[0] is Status.TOO_SHORT


def test_a_file_without_sound_can_be_in_place() -> None:
    assert misplaced(measured(audio=None), seconds=10) == ""


@pytest.mark.parametrize(("level", "flag"), [(-200.0, True), (-60.1, True), (-60.0, False), (-20.0, False)])
def test_silence_is_sound_below_60_decibels(level: float, flag: bool) -> None:
    assert silent(measured(audio_rms_db=level)) is flag


@pytest.mark.parametrize(("seconds", "flag"), [(10.0, True), (7.5, True), (7.4, False), (0.0, False)])
def test_a_picture_that_stays_for_three_quarters_of_its_time_is_still(seconds: float, flag: bool) -> None:
    assert still(measured(still_seconds=seconds)) is flag
