"""A Matplotlib figure that a notebook shows, also where nobody has imported pyplot."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that knows its own form in a notebook."""

    def _repr_png_(self) -> bytes:
        target = io.BytesIO()
        self.savefig(target, format="png", facecolor="white", bbox_inches="tight")
        return target.getvalue()
