"""The format of `--help`: line breaks of the description are kept, types and defaults are shown in plain words."""

import argparse
import re

from jsonargparse import DefaultHelpFormatter


class PlainHelp(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help formatter that keeps the description's line breaks (for the examples), and shows types and defaults plainly.

    The description is not repeated as the heading of options, and a group as a whole (`--optim FILE`) is no line of its own.
    """

    _about = ""
    """The description."""

    def add_text(self, text: str | None) -> None:
        """Add the description, or the text of a group."""
        self._about = self._about or text or ""
        super().add_text(text)

    def start_section(self, heading: str | None) -> None:
        """Begin a group of options."""
        again = heading is not None and self._about.startswith(heading)
        super().start_section("more options" if again else heading)

    def add_argument(self, action: argparse.Action) -> None:
        """Add an option."""
        if action.help != "Path to a configuration file.":
            super().add_argument(action)

    def _expand_help(self, action: argparse.Action) -> str:
        text: str = super()._expand_help(action)
        for pattern, plain in _PLAIN:
            text = re.sub(pattern, plain, text)
        return text


_PLAIN = (
    (
        r"(?s)^Print the configuration after applying .*$",
        "Print all settings as YAML and exit; with =skip_default only those that differ from their defaults.",
    ),
    (r" \(default: False\)$", ""),
    (r"type: Literal\[[^\]]*\], ", ""),  # the metavar lists the choices
    (r"type: (?:<class 'Path'>|Path)", "type: path"),
    (r"type: Address", "type: str"),
    (r"(type: [^()]*) \| null(?=[,)])", r"\1"),
    (r"(?:, | \()default: (?:null|\[\]|\(\))?\)$", lambda found: ")" if found[0].startswith(",") else ""),
)
"""Patterns in the types and defaults that jsonargparse shows, and what stands there instead. A default of nothing is left out:
the text says what it means."""
