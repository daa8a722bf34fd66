"""The frame of every page: one HTML file that asks nothing of the network, and the tables on it.

The content security policy allows no request at all and no script but our own (by its hash), so that even a mistake in escaping
could neither load nor run anything.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from sae.dashboards.theme import SCRIPT, STYLE

__all__ = ["config_table", "document", "scrolling_table", "with_link"]

MAIN = "<body>\n<main>\n"


SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{SCRIPT_HASH}'; base-uri 'none'; form-action 'none'"
)


def document(title: str, body: str) -> str:
    """A whole page.

    Args:
        title: the window's title, plain text.
        body: markup inside <main>; whoever made it has escaped what came from outside.
    """
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"{MAIN}{body}\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def with_link(page: str, address: str, words: str) -> str:
    """A page that `document` made, with a link above it; any other page stays as it is.

    Args:
        page: HTML.
        address: of the link.
        words: of the link, plain text.
    """
    return page.replace(MAIN, f'{MAIN}<nav><a href="{escape(address)}">{escape(words)}</a></nav>\n', 1)


def scrolling_table(label: str, header: Sequence[str], rows: Sequence[str], *, numbers_from: int = 1) -> str:
    """A table that scrolls inside its own frame where it is wider than the window, by keyboard too.

    Args:
        label: what the table holds, for those who hear it.
        header: plain text of the head cells.
        rows: markup of the body's <tr> elements.
        numbers_from: head cells from this index on stand over numbers.
    """
    cells = (
        f'<th scope="col"{" class=number" if i >= numbers_from else ""}>{escape(cell)}</th>' for i, cell in enumerate(header)
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}"><table><thead><tr>{"".join(cells)}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def config_table(config: Mapping[str, object]) -> str:
    """The config as dotted keys and values: each line is what one would type to override it."""
    rows = (
        f'<tr><th scope="row">{escape(key)}</th><td class="value">{escape(_spelt(value))}</td></tr>'
        for key, value in _dotted(config)
    )
    table = f"<table><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll config" role="region" tabindex="0" aria-label="Config">{table}</div>'


def _dotted(config: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """Leaves of a nested mapping with their dotted keys, in order."""
    leaves: list[tuple[str, object]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            leaves += _dotted(value, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves


def _spelt(value: object) -> str:
    """A config value as YAML spells it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
