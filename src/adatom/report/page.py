"""One self-contained HTML page: text, key figures, tables and pictures, readable offline."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Sequence

from adatom.core.files import atomic_write

_STYLE = """
:root { --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --back: #ffffff; --card: #f6f8fa;
  --accent: #0b6e99; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa7b6; --line: #2c3644;
  --back: #141a22; --card: #1b232d; --accent: #58b5dc; } figure img { background: #fff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 48px 24px 80px; }
header p { color: var(--soft); margin: 4px 0 0; }
h1 { font-size: 30px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 48px 0 12px; padding-top: 20px; border-top: 1px solid var(--line); }
p { max-width: 74ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px;
  margin: 28px 0 8px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
.card .value { font-size: 24px; font-weight: 650; font-variant-numeric: tabular-nums; }
.card .value small { font-size: 14px; font-weight: 500; color: var(--soft); }
.card .label { color: var(--soft); font-size: 13px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 20px; }
figure { margin: 0; }
figure img { width: 100%; height: auto; border-radius: 8px; }
figcaption { color: var(--soft); font-size: 14px; margin-top: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums;
  min-width: 50%; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); text-align: right; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
code { font: 13px/1.4 ui-monospace, Menlo, Consolas, monospace; background: var(--card);
  padding: 1px 5px; border-radius: 4px; }
pre { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; background: var(--card);
  border-radius: 8px; padding: 14px 16px; overflow-x: auto; max-height: 560px; }
footer { margin-top: 56px; color: var(--soft); font-size: 13px; }
@media (max-width: 480px) { .figures { grid-template-columns: 1fr; } }
"""


class Page:
    """Collects sections and writes them as one HTML file without outside references.

    Args:
        title: Heading of the page.
        subtitle: One line below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title = title
        self._subtitle = subtitle
        self._body: list[str] = []

    def section(self, heading: str, text: str = "") -> None:
        """Start a section, with an optional paragraph."""
        self._body.append(f"<h2>{html.escape(heading)}</h2>")
        if text:
            self.paragraph(text)

    def paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._body.append(f"<p>{html.escape(text)}</p>")

    def code(self, text: str) -> None:
        """Add text as it is, such as a configuration."""
        self._body.append(f"<pre>{html.escape(text)}</pre>")

    def cards(self, figures: Sequence[tuple[str, str, str]]) -> None:
        """Add key figures as ``(label, value, unit)``."""
        cells = "".join(
            f'<div class="card"><div class="value">{html.escape(value)} '
            f"<small>{html.escape(unit)}</small></div>"
            f'<div class="label">{html.escape(label)}</div></div>'
            for label, value, unit in figures
        )
        self._body.append(f'<div class="cards">{cells}</div>')

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; floats get four digits, None gives a dash."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(format_cell(v))}</td>" for v in row) + "</tr>"
            for row in rows
        )
        self._body.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def figures(self, pictures: Sequence[tuple[str, str]]) -> None:
        """Add pictures side by side as ``(data URI, caption)``."""
        cells = "".join(
            f'<figure><img alt="{html.escape(caption)}" src="{uri}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for uri, caption in pictures
        )
        self._body.append(f'<div class="figures">{cells}</div>')

    def append(self, other: Page) -> None:
        """Add everything of another page below."""
        self._body += other._body

    def to_html(self, footer: str = "") -> str:
        """Return the whole document."""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self._title)}</title><style>{_STYLE}</style></head><body><main>"
            f"<header><h1>{html.escape(self._title)}</h1><p>{html.escape(self._subtitle)}</p>"
            f"</header>{''.join(self._body)}<footer>{html.escape(footer)}</footer>"
            "</main></body></html>\n"
        )

    def write(self, path: str | os.PathLike[str], footer: str = "") -> None:
        """Write the document atomically.

        Raises:
            FileAccessError: If ``path`` cannot be written.
        """
        with atomic_write(path) as part:
            part.write_text(self.to_html(footer), encoding="utf-8")


def format_cell(value: object) -> str:
    """Return a table cell: four significant digits, a dash for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
