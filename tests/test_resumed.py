"""What was changed on resume, in words."""

from kinetics_sounds.resumed import format_changes


def test_hashes_are_shortened_and_texts_are_not() -> None:
    changes = [
        {"step": 3, "setting": "fingerprint", "before": "a" * 64, "after": "b" * 64},
        {"step": 3, "setting": "view", "before": "clip_and_log_mel", "after": "clip_and_spectrogram"},
        {"step": 4, "setting": "steps", "before": 40, "after": 60},
    ]
    assert format_changes(changes) == (
        "fingerprint bbbbbbbbbbbb from step 3 on (was aaaaaaaaaaaa), "
        "view clip_and_spectrogram from step 3 on (was clip_and_log_mel), steps 60 from step 4 on (was 40)"
    )
