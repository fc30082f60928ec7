"""The only writer of HTML: a page that is opened from disk and may not access the network.

Third-party text is put into the page as JSON within `<script type="application/json">`, where `<` is escaped, and from there only
as text nodes. The Content-Security-Policy allows only the page's own scripts and styles, by SHA-256.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

SCRIPTS = ("table.js", "filters.js", "clips.js", "runs.js", "view.js")
PLOTS = ("uPlot.iife.min.js",)
"""Scripts that are only included in pages with curves."""
STYLES = ("view.css",)
PLOT_STYLES = ("uPlot.min.css",)


def html_of(*, title: str, lines: Sequence[str], document: Mapping[str, Any], media: Sequence[Any]) -> bytes:
    """The page, as UTF-8.

    `lines`: text below the title, which is all that is shown without JavaScript. `document` and `media` (the embedded clips):
    data for the scripts in `assets/`.
    """
    plots = bool(document.get("runs"))
    scripts = ["\n".join(map(_asset, names)) for names in ((PLOTS if plots else ()), SCRIPTS) if names]
    style = "\n".join(map(_asset, (*(PLOT_STYLES if plots else ()), *STYLES)))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_policy(scripts, style), quote=True)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{html.escape(title)}</title><style>{style}</style></head>",
        f"<body><header><h1>{_breakable(title)}</h1>{''.join(f'<p>{html.escape(line)}</p>' for line in lines)}",
        "<noscript><p>Filters, clips and curves need JavaScript, which this page brings with it.</p></noscript></header>",
        '<main id="main"></main>',
        f'<script type="application/json" id="document">{_json(document)}</script>',
        f'<script type="application/json" id="media">{_json(media)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body></html>\n",
    ]
    return "\n".join(parts).encode(errors="replace")


def _breakable(text: str) -> str:
    """Text as HTML that breaks after a slash or underscore before it breaks within a word."""
    return html.escape(text).replace("/", "/<wbr>").replace("_", "_<wbr>")


def data_url(kind: str, content: bytes) -> str:
    """Bytes as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _policy(scripts: Sequence[str], style: str) -> str:
    """Content-Security-Policy: only the page's own scripts and styles, its embedded media, and the clips beside it."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "media-src data: file: 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _json(document: object) -> str:
    """JSON in ASCII that can neither close nor open an HTML element."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text("utf-8")
