"""A vignette: a structural causal model over phrases whose mechanisms are written down.

A vignette is the *ground truth* that text is generated from: a list of variables in causal order,
each with a finite set of options, several wordings (templates with one blank ``{}``) and a
log-linear mechanism. It needs no language model. The embedded language model is trained on text
drawn from vignettes, so its conditional probabilities have a known target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

Logits = tuple[float, ...]


@dataclass(frozen=True)
class Variable:
    """One variable: ``P(option | parents) = softmax(base + sum of the parents' effects)``.

    Attributes:
        name: the name of the variable, unique in its vignette.
        options: the K phrases that may fill the blank.
        wordings: templates, each with exactly one blank ``{}``; they differ in wording only.
        base: K logits.
        effects: ``parent -> option of the parent -> K logits to add``. Options of a parent that
            are left out add nothing.
        exogenous: True for a root of the model's background that may not be intervened on.
        written: True where the options are texts of several phrases, which a program may let a language model write.

    >>> rain = Variable("rain", ("yes", "no"), ("Will it rain: {}.",), base=(0.0, 0.0))
    >>> rain.parents
    ()
    """

    name: str
    options: tuple[str, ...]
    wordings: tuple[str, ...]
    base: Logits
    effects: Mapping[str, Mapping[str, Logits]] = field(default_factory=dict)
    exogenous: bool = False
    written: bool = False

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the variables that the mechanism reads."""
        return tuple(self.effects)


@dataclass(frozen=True)
class Vignette:
    """Variables in causal order, with a treatment, an outcome and covariates to hide.

    Attributes:
        name: a short identifier, such as ``"oncology"``.
        variables: in causal order; a variable's effects name earlier variables only.
        treatment: name of the variable that questions intervene on.
        outcome: name of the variable whose change is asked for.
        hidden: names of the variables that a "hidden confounding" setting withholds.
        given_all: True where a language model is shown every earlier sentence (the mechanism's
            parents are then a subset of what it sees), False where it is shown the parents only.

    >>> from sdscm_jax.vignettes import oncology
    >>> values = oncology.sample(np.random.default_rng(0), 3)
    >>> values.shape
    (3, 14)
    >>> oncology.probabilities("therapy", values).shape
    (3, 4)
    """

    name: str
    variables: tuple[Variable, ...]
    treatment: str
    outcome: str
    hidden: tuple[str, ...] = ()
    given_all: bool = True

    def __post_init__(self) -> None:
        seen: dict[str, Variable] = {}
        for v in self.variables:
            if v.name in seen:
                raise ValueError(f"{self.name}: two variables are named {v.name!r}")
            if len(v.base) != len(v.options):
                raise ValueError(f"{self.name}.{v.name}: one base logit per option is needed")
            for template in v.wordings:
                if template.count("{}") != 1:
                    raise ValueError(f"{self.name}.{v.name}: one blank is needed in {template!r}")
            for parent, table in v.effects.items():
                if parent not in seen:
                    raise ValueError(f"{self.name}.{v.name}: {parent!r} is not an earlier variable")
                for option, logits in table.items():
                    if option not in seen[parent].options or len(logits) != len(v.options):
                        raise ValueError(f"{self.name}.{v.name}: bad effect of {parent}={option!r}")
            seen[v.name] = v
        for role in (self.treatment, self.outcome, *self.hidden):
            if role not in seen:
                raise ValueError(f"{self.name}: {role!r} is not a variable")

    def __getitem__(self, name: str) -> Variable:
        return self.variables[self.index(name)]

    def index(self, name: str) -> int:
        """Position of the variable ``name`` in causal order."""
        return [v.name for v in self.variables].index(name)

    def probabilities(self, name: str, values: np.ndarray) -> np.ndarray:
        """Mechanism of ``name``: float64 ``[n, K]`` given option indices ``values`` ``[n, >=parents]``."""
        variable = self[name]
        logits = np.tile(np.asarray(variable.base, np.float64), (len(values), 1))
        for parent, table in variable.effects.items():
            rows = np.zeros((len(self[parent].options), len(variable.options)))
            for option, added in table.items():
                rows[self[parent].options.index(option)] = added
            logits += rows[values[:, self.index(parent)]]
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draw ``n`` units: int64 option indices ``[n, variables]``."""
        values = np.zeros((n, len(self.variables)), np.int64)
        for j, variable in enumerate(self.variables):
            cdf = self.probabilities(variable.name, values[:, :j]).cumsum(1)
            values[:, j] = (rng.random((n, 1)) > cdf[:, :-1]).sum(1)
        return values
