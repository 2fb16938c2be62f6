"""``audit_plan``: what an audit will ask, and what effect it could find, before any language model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .. import checks
from ..errors import AuditError
from .interval import ROUNDING
from .power import detectable
from .spec import AuditSpec, audit_spec
from .wordings import design_of

# How much effects may differ between repetitions, where nothing is known of it.
SPREADS = (0.005, 0.01, 0.02, 0.05)


def audit_plan(
    spec: AuditSpec | str | Path,
    *,
    wordings: int = 16,
    option_wordings: int = 2,
    level: float = 0.95,
    margin: float = 0.005,
    spreads: Sequence[float] = SPREADS,
) -> pd.DataFrame:
    """What an audit will ask, and the least effect that it would find in four of five cases.

    Args:
        spec, wordings, option_wordings, level, margin: see ``audit``.
        spreads: standard deviations of an effect between repetitions, of which the effects that can be found are told.
            No one knows it before; an earlier audit's is ``(upper - lower) / 2 / t * sqrt(repetitions)``, with t the
            quantile of Student's distribution.

    Returns:
        one row for each proxy and spread: ``proxy``, ``repetitions``, ``wordings`` in each, ``option_wordings`` in each
        wording, ``combinations`` (in all), ``scarcest`` (what there would have to be more of for more repetitions),
        ``fixed`` (what has one level, or is all there is: results are for these), ``spread``, ``detectable`` (nan: one
        repetition, no interval; inf: none that is possible).

    Raises:
        AuditError: as ``audit``.

    >>> found = audit_plan("hiring", spreads=[0.02])
    >>> found[["repetitions", "combinations", "detectable"]].round(4).values.tolist()
    [[10.0, 20.0, 0.0224]]
    """
    wordings = checks.count(wordings, "wordings", AuditError, least=2)
    option_wordings = checks.count(option_wordings, "option_wordings", AuditError)
    level, margin = (
        checks.share(level, "level", AuditError),
        checks.real(margin, "margin", AuditError, least=0, below=1),
    )
    numbers = [
        checks.real(s, "a spread", AuditError, least=ROUNDING, most=1)
        for s in checks.items(spreads, "spreads", AuditError)
    ]
    spec = spec if isinstance(spec, AuditSpec) else audit_spec(spec)
    rows = []
    for proxy in spec.proxies:
        found = design_of(spec, proxy, wordings, option_wordings)
        for spread in numbers:
            error = spread / np.sqrt(found.repetitions) if found.repetitions > 1 else float("nan")
            least = detectable(error, found.repetitions, 1 - level, margin, known=True)
            rows.append({
                "proxy": proxy.name, "repetitions": found.repetitions, "wordings": found.wordings,
                "option_wordings": found.option_wordings, "combinations": found.cells,
                "scarcest": ", ".join(d.name for d in found.scarcest),
                "fixed": ", ".join(d.name for d in found.dimensions if d.fixed), "spread": spread,
                "detectable": float("inf") if least > 1 else least,
            })  # fmt: skip
    return pd.DataFrame(rows)
