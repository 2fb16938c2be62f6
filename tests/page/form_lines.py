"""What stands in the forms of a page: for the tour's page of them, without a kernel (here) and with one (the site)."""

from __future__ import annotations

import html.parser


class _Forms(html.parser.HTMLParser):
    """The lines of forms: a title, the rows of tables, and where a picture is."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._depth = 0
        self._cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "div" and (self._depth or dict(attrs).get("class") == "sdscm-form"):
            self._depth += 1
        if not self._depth:
            return
        if tag in ("tr", "p"):
            self._cells = []
        if tag in ("th", "td", "p"):
            self._cells.append("")
        if tag == "svg":
            name = dict(attrs).get("aria-label") or "picture"
            if name == "interval":
                self._cells[-1] += f"<{name}>"
            else:
                self.lines.append("<picture>")

    def handle_endtag(self, tag: str) -> None:
        if self._depth and tag in ("tr", "p"):
            self.lines.append(" | ".join(self._cells).strip())
        if self._depth and tag == "div":
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        if self._depth and self._cells:
            self._cells[-1] += data.strip("\n")


def lines_of_forms(page: str) -> list[str]:
    """The lines of all forms of a page, in order."""
    parser = _Forms()
    parser.feed(page)
    parser.close()
    return parser.lines
