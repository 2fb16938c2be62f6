"""``"sequence"``: the log-probability of the option and of the rest of its sentence."""

from __future__ import annotations

from .base import OfEdges


class Sequence(OfEdges):
    """The domain-restricted law of Bynum and Cho 2024, arXiv 2411.08019, Definition A.5: the sample space holds whole
    phrases, option and suffix, and their tokens' log-probabilities are summed."""

    name = "sequence"
    says = "probability of the option and of the rest of its sentence"
    of_text = True
    learnt = True
