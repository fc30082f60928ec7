"""kinetics-sounds: build reproducible audio-visual datasets from a list of action classes."""

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:  # python -m, as torchrun starts a rank: what follows is not for
    del sys.path[0]  # the files of the working folder to answer

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("kinetics-sounds")
except PackageNotFoundError:  # imported from a folder, as by PYTHONPATH, without being installed
    __version__ = "0+unknown"
