"""Writes the tables of families anew: docs/models.md, docs/parity.md and docs/add-a-family.md.

    python benchmarks/family_pages.py    # after a family was added, or benchmarks/parity.py was run

The tests hold the pages to the same lists.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from parity import HERE, experts_table, tables

DOCS = HERE.parent / "docs"


def table(heading: str, rows: list[str], text: str) -> str:
    """The text with other rows under the heading of a table."""
    pattern = re.escape(heading) + r"\n(\|[-|]+\|\n)(?:\|.*\n)*"
    found = re.subn(pattern, lambda m: f"{heading}\n{m[1]}" + "".join(f"{row}\n" for row in rows), text)
    assert found[1] == 1, heading
    return found[0]


def between(first: str, last: str, lines: list[str], text: str) -> str:
    """The text with other lines between two marks."""
    before, _, rest = text.partition(first)
    return f"{before}{first}\n" + "\n".join(lines) + f"\n{last}{rest.partition(last)[2]}"


def main() -> None:
    from sdscm_jax.models.families import FAMILIES
    from sdscm_jax.models.known_models import most_used, rows

    page = DOCS / "models.md"
    text = page.read_text(encoding="utf-8")
    known = [f"| `{name}` | " + " | ".join(rest) + " |" for name, *rest in rows()]
    text = table("| `model_type` | | models | tried on | in GGUF files |", known, text)
    used = [f"| `{name}` | {models} | {what} |" for name, models, what in most_used()]
    page.write_text(table("| `model_type` | models | |", used, text), encoding="utf-8")

    page = DOCS / "add-a-family.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(re.sub(r"# gpt2 llama .*", f"# {' '.join(FAMILIES)}", text), encoding="utf-8")

    report = json.loads((HERE / "results" / "parity.json").read_text(encoding="utf-8"))
    page = DOCS / "parity.md"
    text = between("<!-- table -->", "<!-- end -->", tables(report), page.read_text(encoding="utf-8"))
    text = between("<!-- experts -->", "<!-- end of experts -->", experts_table(report), text)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
