"""Parse command lines into frozen dataclasses; used by all commands.

A field's docstring is its help text, shown with its default. The command line overrides a `--config` file, which overrides the
defaults. A dataclass nested as a group of options cannot have slots (jsonargparse reads its `__dict__`).
"""

import argparse
import dataclasses
import functools
import inspect
import itertools
import re
import sys
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, TypeVar

import docstring_parser
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, set_parsing_settings  # type: ignore[attr-defined]
from jsonargparse.typing import register_type

from . import __version__, command, option_errors, plugins
from .address import HELP, NOTE, Address
from .config_text import check_config, dump_config, has_setting, read_config
from .errors import SettingsError
from .help_format import PlainHelp
from .redact import HIDDEN
from .renamed import rename_options

S = TypeVar("S")

set_parsing_settings(docstring_parse_attribute_docstrings=True)
register_type(Address, serializer=str, deserializer=Address)


@dataclasses.dataclass(frozen=True)
class Parsed(Generic[S]):
    """The parsed command line."""

    settings: S
    groups: Mapping[str, Any]
    """An instance of each group's dataclass, by name."""
    configs: tuple[Path, ...] = ()
    """The files given to `--config`, and the `name` of configs that have no file of their own."""

    @property
    def values(self) -> dict[str, Any]:
        """All values except None, as plain YAML data."""
        return {**_plain(self.settings), **{name: _plain(group) for name, group in self.groups.items()}}

    @property
    def text(self) -> str:
        """The same as YAML that `--config` reads back."""
        text = dump_config(self.values)
        return f"{NOTE}{text}" if HIDDEN in text else text


def _plain(value: Any) -> Any:  # noqa: ANN401 - any setting
    """A setting as plain YAML data: mappings, lists, texts, numbers and booleans."""
    if dataclasses.is_dataclass(value):
        named = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: _plain(each) for name, each in named.items() if each is not None}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path | Address) else value


@dataclasses.dataclass(frozen=True)
class Layers:
    """A config that is not a file of its own."""

    name: Path
    """Name in error messages: the file it is in, and its name there."""
    parts: tuple[Path | str, ...]
    """YAML files or texts; later ones override earlier ones."""
    places: tuple[Path | None, ...] = ()
    """Name of each part in error messages, if it differs from `name`."""


def parse(
    kind: type[S],
    argv: Sequence[str] | None,
    *,
    prog: str,
    groups: Mapping[str, type] | None = None,
    find_config: Callable[[str], Path | Layers] | None = None,
) -> Parsed[S]:
    """Parse the fields of `kind`, and each group's under its name, from `argv` (None: that of the process).

    `prog` may end with positional arguments in capitals, such as "ks-view [PATH ...]". The docstring of `kind` is the parser's
    description. `find_config` turns the value of `--config` into a file or layers; without it there is no `--config`. A field
    with metadata `package` takes the name of one of that package's modules, or one of the words in `also`. Raises SettingsError
    naming the option and the remedy.
    """
    configs: list[Path] = []

    def find(name: str) -> tuple[tuple[str, Path | None], ...]:
        found = find_config(name) if find_config else Path(name)
        layers = found if isinstance(found, Layers) else Layers(found, (found,))
        configs.append(layers.name)
        places = layers.places or (None,) * len(layers.parts)
        texts = (part if isinstance(part, str) else read_config(part) for part in layers.parts)
        return tuple(zip(texts, places, strict=True))

    words = list(sys.argv[1:] if argv is None else argv)
    command.keep_secret(words)
    modules = _modules(kind)
    parser, defaults = _parser(
        typing.cast("Any", kind), prog, tuple((groups or {}).items()), modules, with_config=find_config is not None
    )
    shape = _shape(kind) | {name: _shape(group) for name, group in (groups or {}).items()}
    state = _Parse(find, shape, defaults)
    now = _PARSE.set(state)
    try:
        words = rename_options(words, lambda name: has_setting(shape, name))
        with command.answering():  # --help and --print_config, which leave here
            namespace = parser.parse_args(_config_first(words), namespace=defaults, defaults=False)
        _check_paths(vars(namespace.as_flat()))
        values = parser.instantiate(namespace)
    except (argparse.ArgumentError, TypeError, ValueError, yaml.YAMLError) as error:
        values = vars(state.values).values()
        told = option_errors.plain(str(error), shape, words, in_config=state.in_config, chosen=values)
        mine = not state.in_config and option_errors.names_a_word(told, words)
        raise _refusal(() if mine else configs, told, prog) from error
    finally:
        _PARSE.reset(now)
    chosen = {field.name: values[field.name] for field in dataclasses.fields(typing.cast("Any", kind))}
    for name, hint in typing.get_type_hints(kind).items():  # what _parser takes from jsonargparse's own checks
        if hint is bool and not isinstance(chosen[name], bool):
            raise _refusal(configs, f"{name}: {chosen[name]!r} is neither true nor false", prog)
        if typing.get_origin(hint) is tuple:
            if not isinstance(chosen[name], list) or not all(isinstance(word, str) for word in chosen[name]):
                raise _refusal(configs, f"{name}: {chosen[name]!r} is not a list of texts", prog)
            chosen[name] = tuple(map(typing.get_args(hint)[0], chosen[name]))
    for name, valid in modules:
        if chosen[name] is not None:
            _check_choice(chosen[name], valid, option=name)
    made = {name: _with_tuples(values[name]) for name in groups or {}}
    return Parsed(kind(**chosen), made, tuple(configs))


def _check_paths(values: Mapping[str, Any]) -> None:
    """Raise ValueError for a path that is a URL, whose secrets it does not tell."""
    for name, value in values.items():
        scheme, slash, rest = str(value).partition(":/")
        if isinstance(value, Path) and slash and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
            raise ValueError(f"--{name} {Address(f'{scheme}://{rest}')}: is a URL, but must be a path")


def _with_tuples(group: Any) -> Any:  # noqa: ANN401 - an instance of whatever was asked for
    """The group with its repeatable options converted to tuples."""
    return dataclasses.replace(group, **{name: tuple(getattr(group, name)) for name in _repeatable(type(group))})


def _repeatable(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind) if field.metadata.get("repeat")}


def _modules(kind: type) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Fields that take the name of a module of a package, with the valid names."""
    return tuple(
        (field.name, (*field.metadata.get("also", ()), *plugins.names(field.metadata["package"])))
        for field in dataclasses.fields(kind)
        if field.metadata.get("package")
    )


def _config_first(argv: list[str]) -> list[str]:
    """The arguments with `--config` first, so that the command line overrides it wherever it stands."""
    first: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--config":
            first += [word, *itertools.islice(words, 1)]
        else:
            (first if word.startswith("--config=") else rest).append(word)
    return first + rest


def _refusal(configs: Sequence[Path], complaint: str, prog: str) -> SettingsError:
    where = "".join(f"{path}: " for path in configs)
    if "surrogates not allowed" in complaint:
        complaint = re.sub(r": '.*", ": its name is not UTF-8; use another name, or a link", complaint)
    return SettingsError(f"{where}{' '.join(complaint.split())}; see {_without_places(prog)} --help")


def _without_places(prog: str) -> str:
    """The command alone: positional arguments of its usage are in capitals."""
    return " ".join(word for word in prog.split() if word.islower())


@dataclasses.dataclass
class _Parse:
    """State of one call of `parse`; the parser is shared between calls."""

    find: Callable[[str], tuple[tuple[str, Path | None], ...]]
    """Texts of a config, and the names in error messages of those that are not its own."""
    shape: Mapping[str, Any]
    values: argparse.Namespace
    """The defaults; after a config, all that is set so far."""
    given: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """Values so far of repeatable options."""
    in_config: bool = False
    """Whether a config is being read: an error that ends the parsing now is about it."""


_PARSE: ContextVar[_Parse] = ContextVar("parse")


@functools.cache
def _parser(
    kind: type,
    prog: str,
    groups: tuple[tuple[str, type], ...],
    modules: tuple[tuple[str, tuple[str, ...]], ...],
    *,
    with_config: bool,
) -> tuple[ArgumentParser, Namespace]:
    """The parser, and its defaults, which jsonargparse would collect twice a parse: half its time with hundreds of options."""
    parser = ArgumentParser(
        prog=prog,
        usage="%(prog)s [options]" if groups else None,  # with plug-ins' options it would fill pages
        description=inspect.cleandoc(kind.__doc__ or ""),
        formatter_class=PlainHelp,
        exit_on_error=False,
        allow_abbrev=False,
        epilog=HELP if any(map(_takes_address, (kind, *dict(groups).values()))) else None,
    )
    if all(field.name != "version" for field in dataclasses.fields(kind)):
        version = f"{_without_places(prog)} {__version__}"
        parser.add_argument("--version", action="version", version=version, help="Print version and exit.")
    if with_config:
        parser.add_argument("--config", action=_FindConfig, help="A recipe: a YAML file, or a shipped name.")
    own = {field.name: field for field in dataclasses.fields(kind)}
    helps = _helps(kind)
    hints = typing.get_type_hints(kind)
    special = {name for name, _ in modules}
    for name, valid in modules:
        how: dict[str, Any] = {"metavar": f"{{{','.join(valid)}}}", "default": own[name].default}
        parser.add_argument(f"--{name}", type=hints[name], help=helps.get(name), **how)
    for name, field in own.items():
        if hints[name] is bool and field.default is False:
            parser.add_argument(f"--{name}", action="store_true", help=helps.get(name))
        elif typing.get_origin(hints[name]) is tuple:
            how = {"action": _Repeated} if field.metadata.get("repeat") else {"nargs": "+"}
            parser.add_argument(
                f"--{name}", default=list(typing.cast("Any", field.default)), help=helps.get(name), **how
            )
        else:
            continue
        special.add(name)
    parser.add_class_arguments(kind, None, skip=special)
    for name, group in groups:
        told = _helps(group)
        for repeated in sorted(_repeatable(group)):
            parser.add_argument(f"--{name}.{repeated}", default=[], action=_Repeated, help=told.get(repeated))
        parser.add_class_arguments(group, name, skip=_repeatable(group))
    return parser, parser.get_defaults()


def _helps(kind: type) -> dict[str, str | None]:
    """Docstrings of the fields, including inherited ones."""
    kinds = [each for each in reversed(kind.__mro__) if dataclasses.is_dataclass(each)]
    return {
        item.arg_name: item.description for each in kinds for item in docstring_parser.parse_from_object(each).params
    }


def _takes_address(kind: type) -> bool:
    return any(Address in (hint, *typing.get_args(hint)) for hint in typing.get_type_hints(kind).values())


class _Repeated(argparse.Action):
    """Repeatable option: values accumulate, replacing the default and those of a config."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # noqa: ANN401 - argparse's own signature
        option_string: str | None = None,
    ) -> None:
        given = _PARSE.get().given.setdefault(self.dest, [])
        given.append(values)
        setattr(namespace, self.dest, list(given))


class _FindConfig(ActionConfigFile):
    """Load a config by its name, with the caller's `find_config`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # noqa: ANN401 - argparse's own signature
        option_string: str | None = None,
    ) -> None:
        parse_ = _PARSE.get()
        parse_.in_config = True
        for text, place in parse_.find(str(values)):
            try:
                text = check_config(text, parse_.shape, place=place or values)
                # jsonargparse takes a text that is a file's name for the file: no file's name is as long.
                super().__call__(parser, namespace, f"{text}\n# {'-' * 4096}", option_string)  # type: ignore[no-untyped-call]
            except (argparse.ArgumentError, TypeError, ValueError) as error:
                if place is None:
                    raise
                raise ValueError(f"base: {place}: {error}") from error
        parse_.in_config, parse_.values = False, namespace


def _shape(kind: type) -> dict[str, Any]:
    """Shape of a dataclass: the type of each setting by name, nested for groups."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: _shape(hints[name]) if dataclasses.is_dataclass(hints[name]) else hints[name] for name in names}


def choices(text: str, valid: Collection[str], *, option: str) -> tuple[str, ...]:
    """The words of a comma-separated option, in order; raises SettingsError for an invalid one."""
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        _check_choice(word, valid, option=option)
    if not words:
        raise SettingsError(f"--{option}: is empty; give one or more of {', '.join(valid)}")
    return words


def _check_choice(word: str, valid: Collection[str], *, option: str) -> None:
    if word not in valid:
        raise SettingsError(f"--{option}: {word!r} is none of {', '.join(valid)}{plugins.nearest(word, valid)}")


def only_one(pattern: str, *, option: str, make: str, below: Path | None = None) -> Path:
    """The only path that matches a default like `data/*/manifest.parquet`; raises SettingsError for none or several.

    `option` is what names another on the command line, as it is written there.
    """
    found = sorted((below or Path()).glob(pattern))
    if len(found) == 1:
        return found[0]
    if not found:
        raise SettingsError(f"nothing matches {pattern} here; make it with {make}, or name it with {option}")
    raise SettingsError(f"there are {len(found)} of {pattern}: {', '.join(map(str, found))}; choose with {option}")
