"""Write the tour as Jupyter notebooks, for Colab and others: ``python docs/notebooks.py DIRECTORY [WHERE]``.

Pages are MyST Markdown, which Jupyter opens by ``jupytext`` and others do not open at all. Each becomes ``NAME.ipynb``
with the page's text and code, in order, after a cell that installs the package from WHERE (what ``pip install`` takes:
a directory, or ``git+https://…`` once the repository has an address; without it nothing is installed) and makes the
directory that the page's pictures go to.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

TOUR = Path(__file__).parent / "tour"
_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*(.*?)^```\n?", re.DOTALL | re.MULTILINE)
# A picture stands where the code that draws it has run; what a page links to is a file beside the page.
_PICTURE = re.compile(r"^!\[([^\]]*)\]\([^)]*\)$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")


def notebook(page: str, where: str | None = None) -> dict[str, Any]:
    """A page as what an ``.ipynb`` file holds (nbformat 4.5)."""
    body = page.split("\n---\n", 1)[1] if page.startswith("---\n") else page
    first = [f"%pip install -q {where}"] * bool(where)
    cells = [("code", "\n".join([*first, "from pathlib import Path", "", 'Path("pictures").mkdir(exist_ok=True)']))]
    for i, part in enumerate(_CELL.split(body)):
        text = part if i % 2 else _LINK.sub(r"\1", _PICTURE.sub(r"*Picture: \1*", part))
        if text.strip():
            cells.append(("code" if i % 2 else "markdown", text.strip("\n")))
    return {
        "cells": [_cell(number, kind, text) for number, (kind, text) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    more = {"execution_count": None, "outputs": []} if kind == "code" else {}
    lines = text.splitlines(keepends=True)
    return {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": lines, **more}


def main(args: list[str]) -> None:
    """What the command line says."""
    out, where = Path(args[0]), args[1] if len(args) > 1 else None
    out.mkdir(parents=True, exist_ok=True)
    for page in sorted(TOUR.glob("*.md")):
        written = json.dumps(notebook(page.read_text(encoding="utf-8"), where), indent=1, ensure_ascii=False)
        (out / f"{page.stem}.ipynb").write_text(written + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
