"""Check the text of a config, which may come from a stranger, before anything is built from it."""

import contextlib
import re
import reprlib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from .plugins import nearest
from .renamed import rename_keys

MOST_CONFIG_BYTES = 64 << 10
"""Maximum size of a config; one with all settings has about 5 KB."""
MOST_CONFIG_DEPTH = 8
"""Maximum nesting depth of a config."""


def read_config(path: Path) -> str:
    """Read the text of a config, up to the size limit; raises ValueError for a longer or unreadable one."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_CONFIG_BYTES + 1)
    except OSError as error:
        raise ValueError(error.strerror) from error
    if len(data) > MOST_CONFIG_BYTES:
        raise ValueError(f"is longer than {MOST_CONFIG_BYTES >> 10} KiB, more than any config")
    return data.decode()


def load_config(text: str) -> object:
    """Parse the text of a config within its bounds; raises ValueError or YAMLError if it is not one."""
    check_bounds(text)
    return get_loader("yaml")(text)


class _Dumper(yaml.SafeDumper):
    """Quotes texts such as 1e3 too, which jsonargparse reads as numbers and PyYAML does not."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def dump_config(document: object) -> str:
    """YAML that `load_config` reads back as it was."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def split_base(text: str) -> tuple[object, str]:
    """Split a config into its `base` (None if it has none) and the rest.

    Raises ValueError or YAMLError if the text is not a config.
    """
    document = load_config(text)
    if not isinstance(document, dict) or document.get("base") is None:
        return None, text
    base = document.pop("base")
    return base, dump_config(document)


def check_config(text: str, shape: Mapping[str, Any], *, place: object) -> str:
    """Check a config against the settings of a command; return it with the current names of renamed settings.

    Done before jsonargparse sees it, which imports what a `class_path` names, opens files and follows aliases without
    bound. `shape` maps each setting to its type, and each group of settings to a shape of its own. `place` is the file, for
    the warning about old names. Raises ValueError that names the key that is wrong.
    """
    if len(text.encode()) > MOST_CONFIG_BYTES:
        raise ValueError(f"is longer than {MOST_CONFIG_BYTES >> 10} KiB, more than any config")
    document = load_config(text)
    if not isinstance(document, dict):
        raise ValueError("Unexpected config: not a mapping of settings")
    renamed = rename_keys(document, place=place, accepts=lambda name: has_setting(shape, name))
    _check_shape(renamed, shape, "")
    return text if renamed == document else dump_config(renamed)


def has_setting(shape: Mapping[str, Any], name: str) -> bool:
    """Whether a dotted name is a setting of this shape, or a key within a setting that is a table."""
    inner: Any = shape
    for part in name.split("."):
        if not isinstance(inner, Mapping):
            return True
        if part not in inner:
            return False
        inner = inner[part]
    return True


def check_bounds(text: str) -> None:
    """Raise ValueError for YAML that expands as it is read, without building anything."""
    depth = 0
    for event in _events(text):
        place = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"{place}aliases (*{event.anchor}) are not supported; write it twice")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_CONFIG_DEPTH:
            raise ValueError(f"{place}nested deeper than {MOST_CONFIG_DEPTH}")


def _events(text: str) -> Iterator[yaml.Event]:
    """Parse YAML. PyYAML 6.0.4 looks ahead for up to 1000 levels and then refuses them: too deep for us too."""
    try:
        yield from yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        if "maximum nesting depth" not in str(error.problem):
            raise
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{place}nested deeper than {MOST_CONFIG_DEPTH}") from error


def _check_shape(document: Mapping[Any, Any], shape: Mapping[str, Any], prefix: str) -> None:
    for name, value in document.items():
        if name not in shape:
            raise ValueError(f"Key '{prefix}{name}' is not accepted{nearest(str(name), shape)}")
        kind, key = shape[name], f"{prefix}{name}"
        if isinstance(kind, Mapping):
            if not isinstance(value, dict):
                raise ValueError(f"{key}: {reprlib.repr(value)} is not a group of settings")
            _check_shape(value, kind, f"{key}.")
            continue
        values = [value]
        if isinstance(value, dict) and typing.get_origin(kind) is dict:
            values = [*value, *value.values()]
        elif isinstance(value, list):
            values = value
        for each in values:
            if not isinstance(each, str | int | float | None):
                raise ValueError(f"{key}: is not a text, number, boolean or list of these")
            if isinstance(each, str):  # jsonargparse tries each text as YAML
                with contextlib.suppress(yaml.YAMLError):
                    check_bounds(each)
