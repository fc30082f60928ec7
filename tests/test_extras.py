"""The command that installs an extra is README's."""

from pathlib import Path

from kinetics_sounds.extras import pip_install


def test_the_words_are_those_of_the_readme() -> None:
    assert pip_install() == (
        "pip install 'kinetics-sounds' (until it is on a package index, from a clone: pip install '.')"
    )
    readme = " ".join((Path(__file__).parents[1] / "README.md").read_text("utf-8").replace("`", "").split())
    assert pip_install("train") in readme
    assert pip_install("hub,train", comment=True) == (
        "pip install 'kinetics-sounds[hub,train]'    # until it is on a package index, from a clone: pip install '.[hub,train]'"
    )
