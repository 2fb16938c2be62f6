"""The ground truth of an audit whose text was generated: exact effects of the written-down mechanisms."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..checks import instance
from ..dsl.scoring.contexts import all_contexts
from ..dsl.scoring.scorings.registry import parse_scoring
from ..effects.factors import Factor, Network
from ..errors import AuditError
from ..vignettes import SHIPPED, Vignette
from .measure import EFFECTS, measure
from .roles import roles_of
from .spec import AuditSpec
from .wordings import option_choices


def vignette_of(spec: AuditSpec) -> Vignette | None:
    """The vignette that has an audit's attribute and outcome, among those that the embedded language model has read.

    >>> from sdscm_jax.audit.spec import audit_spec
    >>> vignette_of(audit_spec("hiring")).name, vignette_of(audit_spec("loan"))
    ('hiring', None)
    """
    names = {spec.attribute, spec.outcome}
    return next((vignette for vignette in SHIPPED if names <= {v.name for v in vignette.variables}), None)


def truth_of(spec: AuditSpec, vignette: Vignette) -> pd.DataFrame | None:
    """What an audit should find in a language model that has learned a vignette's mechanisms.

    Args:
        spec: the audit.
        vignette: the mechanisms that text was generated from.

    Returns:
        ``proxy``, ``level``, ``effect``, ``value``; None where the audit is of something else: a sentence or phrase
        that the vignette does not know, a sentence that is shown fewer than the mechanism's parents, or a score that
        is no log-probability of the text.

    >>> from sdscm_jax.audit.spec import audit_spec
    >>> from sdscm_jax.vignettes import hiring
    >>> truth_of(audit_spec("hiring").known_to(hiring), hiring).set_index("effect")["value"].round(3)["total"]
    np.float64(-0.179)
    """
    instance(spec, AuditSpec, "spec", AuditError)
    instance(vignette, Vignette, "vignette", AuditError)
    known = {v.name: v for v in vignette.variables}
    names = {spec.attribute, *(v.name for v in spec.variables)}
    if not parse_scoring(spec.scorings[0]).of_text or not names <= set(known):
        return None
    for variable in spec.variables:
        missing = set(known[variable.name].parents) - set(variable.parents)
        own, written = known[variable.name], variable.written is not None
        if own.written != written or (variable.options != own.options and not written) or missing:
            return None
    rows = []
    for proxy in spec.proxies:
        choices = option_choices(spec, proxy)
        texts = {text for phrases, _ in choices for text in phrases.values()}
        if not texts <= set(known[spec.attribute].options) or any(options for _, options in choices):
            return None
        for number, level in enumerate(spec.levels[1:], start=1):
            found = [measure(_network(spec, vignette, phrases), roles_of(spec), number) for phrases, _ in choices]
            rows += [
                {"proxy": proxy.name, "level": level, "effect": e, "value": float(np.mean([f[e] for f in found]))}
                for e in EFFECTS
            ]
    return pd.DataFrame(rows)


def _network(spec: AuditSpec, vignette: Vignette, phrases: dict[str, str]) -> Network:
    """The mechanisms as the audit asks for them."""
    numbers = [vignette[spec.attribute].options.index(phrases[level]) for level in spec.levels]
    size = len(spec.levels)
    factors = [Factor(spec.attribute, (), np.full(size, 1 / size), tuple(spec.levels))]
    # A text is one of those that the vignette knows.
    options = {v.name: vignette[v.name].options for v in spec.variables}
    sizes = {spec.attribute: size, **{name: len(texts) for name, texts in options.items()}}
    for variable in spec.variables:
        contexts = all_contexts([sizes[name] for name in variable.parents])
        values = np.zeros((len(contexts), len(vignette.variables)), np.int64)
        for column, name in enumerate(variable.parents):
            own = contexts[:, column]
            values[:, vignette.index(name)] = np.array(numbers)[own] if name == spec.attribute else own
        table = vignette.probabilities(variable.name, values)
        shape = (*(sizes[name] for name in variable.parents), sizes[variable.name])
        factors.append(Factor(variable.name, variable.parents, table.reshape(shape), options[variable.name]))
    return Network(tuple(factors))
