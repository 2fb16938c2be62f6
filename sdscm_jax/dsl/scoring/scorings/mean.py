"""``"mean"``: ``"sequence"`` per token."""

from __future__ import annotations

from .base import OfEdges


class Mean(OfEdges):
    """The mean log-probability of the tokens of option and suffix."""

    name = "mean"
    says = "average per token, so that long options are not charged for their length"
    mean = True
