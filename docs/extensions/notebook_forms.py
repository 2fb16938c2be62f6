"""What a notebook shows of results is what stands in ``docs/tour/09_in_a_notebook.txt``.

Building the site runs the page in a kernel; the forms in the page that comes out are compared to that file, line by
line, numbers to their last digits. ``tests/page/test_forms_notebook.py`` does so without a kernel.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

PAGE = "tour/09_in_a_notebook"
ROOT = Path(__file__).parents[2]


def _compare(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html" or app.config.nb_execution_mode == "off":
        return
    sys.path.insert(0, str(ROOT))
    from tests.page.form_lines import lines_of_forms
    from tests.printed import differing

    built = lines_of_forms((Path(app.outdir) / f"{PAGE}.html").read_text(encoding="utf-8"))
    expected = (ROOT / "docs" / f"{PAGE}.txt").read_text(encoding="utf-8").splitlines()
    for line, wanted in differing(built, expected):
        getLogger(__name__).warning("%s shows %r, and not %r", PAGE, line, wanted)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    # Before the pictures are put back, which takes what else the page wrote away.
    app.connect("build-finished", _compare, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
