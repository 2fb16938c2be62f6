"""``"option"``: the log-probability of the option's own tokens."""

from __future__ import annotations

from .base import OfEdges


class Option(OfEdges):
    """As ``"sequence"`` without what follows the blank."""

    name = "option"
    says = "probability of the option’s own words"
    with_suffix = False
    of_text = True
    learnt = True
