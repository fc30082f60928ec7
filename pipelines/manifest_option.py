"""--manifest of the commands that read a manifest, or write that of a data set."""

from pathlib import Path

from kinetics_sounds.settings import only_one

NAME = "manifest.parquet"
SUFFIXES = (".parquet", ".csv")
BUILD_OF_FOLDERS = (
    "to make one of your own clips in folders train/CLASS/, list them with examples/list_folders.py, then: ks-build "
    "--classes LIST --annotations CSV --source local:FOLDER --local.trimmed yes"
)
"""What to do with clips that ks-shard --dataset packed, where only those of a build will do."""


def manifest_path(given: Path | None) -> Path:
    """The given manifest, or that of the given folder, which may not be there yet; without either the only one under data/.

    What is not there is a folder, unless it is named like a manifest (`*.parquet`, `*.csv`).
    Raises SettingsError if there are none or several under data/.
    """
    if given is None:
        return only_one(f"data/*/{NAME}", option="--manifest", make="ks-build")
    is_manifest = given.is_file() or (given.suffix.lower() in SUFFIXES and not given.is_dir())
    return given if is_manifest else given / NAME
