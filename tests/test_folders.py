"""A name that is free is found beside those that are not."""

from pathlib import Path

from kinetics_sounds.folders import first_free


def test_the_first_free_name_is_the_path_itself_or_has_a_number() -> None:
    taken = {Path("data/k32"), Path("data/k32_2")}

    assert first_free(Path("data/k32"), lambda each: each not in taken) == Path("data/k32_3")
    assert first_free(Path("data/k31"), lambda each: each not in taken) == Path("data/k31")
