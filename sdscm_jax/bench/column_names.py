"""Names of the columns of a generated data set; see the data card."""

from __future__ import annotations

from ..engine.columns import labelled, log_prob_column

DATASET, WORDING, UNIT, PROPENSITY = "dataset", "wording", "unit", "propensity"
# Names that no site of a family may have.
OWN = frozenset({DATASET, WORDING, UNIT, PROPENSITY})


def world(treatment: str, arm: str) -> str:
    """Label of the world in which everybody's treatment is ``arm``.

    >>> world("gym", "home")
    'do(gym=home)'
    """
    return f"do({treatment}={arm})"


def value(site: str, label: str = "") -> str:
    """Column of a site's option in a world.

    >>> value("marathon", "do(gym=home)")
    'marathon|do(gym=home)'
    """
    return labelled(site, label)


def log_probability(site: str, option: str, label: str = "") -> str:
    """Column of an option's log-probability given the site's parents in a world.

    >>> log_probability("marathon", "worsen", "do(gym=home)")
    'logp(marathon=worsen)|do(gym=home)'
    """
    return log_prob_column(site, (), option, label)


def individual(outcome: str, option: str) -> str:
    """Column of a unit's effect on the probability of an option.

    >>> individual("marathon", "worsen")
    'ite(marathon=worsen)'
    """
    return f"ite({outcome}={option})"


def exact(outcome: str, option: str, label: str) -> str:
    """Column of an option's exact probability in a world given what the treatment does not cause.

    >>> exact("marathon", "worsen", "do(gym=home)")
    'exact(marathon=worsen)|do(gym=home)'
    """
    return labelled(f"exact({outcome}={option})", label)
