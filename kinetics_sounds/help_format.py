"""The format of `--help`: line breaks of the description are kept, types and defaults are shown in plain words."""

import argparse
import re

from jsonargparse import DefaultHelpFormatter


class PlainHelp(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help formatter that keeps the description's line breaks (for the examples), and shows types and defaults plainly."""

    def _expand_help(self, action: argparse.Action) -> str:
        text: str = super()._expand_help(action)
        for pattern, plain in _PLAIN:
            text = re.sub(pattern, plain, text)
        return text


_PLAIN = (
    (r"type: Literal\[[^\]]*\], ", ""),  # the metavar lists the choices
    (r"type: (?:<class 'Path'>|Path)", "type: path"),
    (r"type: Address", "type: str"),
    (r"(type: [^()]*) \| null(?=[,)])", r"\1"),
    (r"(?:, | \()default: (?:null|\[\]|\(\))?\)$", lambda found: ")" if found[0].startswith(",") else ""),
)
"""Patterns in the types and defaults that jsonargparse shows, and what stands there instead. A default of nothing is left out:
the text says what it means."""
