"""``"pmi"``: what the context adds."""

from __future__ import annotations

from .base import OfEdges


class PMI(OfEdges):
    """``"sequence"`` less the same without the given texts: pointwise mutual information of option and context
    (Holtzman et al. 2021, arXiv 2104.08315)."""

    name = "pmi"
    says = "probability compared with that without context"
    less_alone = "sequence"
