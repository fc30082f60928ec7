"""--manifest of the commands that read a build's manifest."""

from pathlib import Path

from kinetics_sounds.settings import only_one

NAME = "manifest.parquet"


def manifest_path(given: Path | None) -> Path:
    """The given manifest, or that of the given folder; without either the only one under data/.

    Raises SettingsError if there are none or several under data/.
    """
    if given is None:
        return only_one(f"data/*/{NAME}", option="--manifest", make="ks-build")
    return given / NAME if given.is_dir() else given
