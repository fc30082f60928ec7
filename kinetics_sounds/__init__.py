"""kinetics-sounds: from a list of action classes to a dataset that can be trusted."""

from importlib.metadata import version

__version__ = version("kinetics-sounds")
