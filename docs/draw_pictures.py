"""Draw the pictures of README and tour again: ``python docs/draw_pictures.py [PAGE …]``; without pages, all of them.

``docs/effects.png`` is the picture that README's first command writes; ``docs/tour/pictures`` are written by the code
of the tour's pages, which runs here as it stands. (Building the site runs it too, and puts the pictures back.)
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
TOUR = DOCS / "tour"


def demo() -> None:
    """The picture of README, from its first command."""
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([sys.executable, "-m", "sdscm_jax", "demo", "--out", out], check=True)
        (DOCS / "effects.png").write_bytes((Path(out) / "effects.png").read_bytes())


def tour(page: Path) -> None:
    """The pictures of a page, from its code, in a process of its own."""
    cells = re.findall(
        r"^```\{code-cell\}[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / f"page_{page.stem}.py"
        code = "\n".join(re.sub(r"^:[a-z-]+:.*\n", "", cell, flags=re.MULTILINE) for cell in cells)
        program.write_text(code, encoding="utf-8")
        command = [sys.executable, __file__, "--run", str(program)]
        subprocess.run(command, check=True, cwd=TOUR, env={**os.environ, "MPLBACKEND": "agg"})


def main(args: list[str]) -> None:
    """What the command line says."""
    if args[:1] == ["--run"]:
        runpy.run_path(args[1], run_name="__main__")
        return
    if not args:
        demo()
    for page in sorted(TOUR.glob("*.md")):
        if (not args or page.stem in args) and "pictures/" in page.read_text(encoding="utf-8"):
            print(page.name, flush=True)
            tour(page)


if __name__ == "__main__":
    main(sys.argv[1:])
