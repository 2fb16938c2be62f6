"""The families that come with the package, and those of files, by one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from .. import vignettes
from ..catalogue import FAMILIES
from ..checks import as_path
from ..errors import FamilyError, nearest
from .members import Family

_DATA = Path(__file__).parent / "data"
_LICENCE = "Apache-2.0"


def family(name_or_path: str | Path) -> Family:
    """A family that comes with the package, or the one of a file.

    Args:
        name_or_path: one of ``FAMILIES``, or the path of a file in the package's format or the reference's. A shipped
            name is not looked for among files; a ``Path`` always is a file.

    Raises:
        FamilyError: it is neither, or the file is not a family.

    >>> family("school").outcome
    'exam'
    >>> family("schol")
    Traceback (most recent call last):
    sdscm_jax.errors.FamilyError: 'schol' is neither a family nor a file; did you mean 'school'? (known: 'oncology', \
'hiring', 'confounder', 'collider', 'clinical_note', 'reference_letter', 'court', 'school')
    """
    if isinstance(name_or_path, str) and name_or_path in _SHIPPED:
        return _SHIPPED[name_or_path]()
    path = as_path(name_or_path, "a family", FamilyError)
    if not path.exists():
        raise FamilyError(
            f"{str(name_or_path)!r} is neither a family nor a file; {nearest(str(name_or_path), FAMILIES)}"
        )
    return Family.read(path)


def _oncology() -> Family:
    return replace(
        Family.from_vignette(vignettes.oncology),
        licence=_LICENCE,
        description="A case of breast cancer in fourteen sentences: the effect of PD-L1 on the choice of therapy.",
    )


def _hiring() -> Family:
    """The vignette as an audit: one of two names at random on an application that does not depend on it.

    The vignette's own applicant is background that nothing may set, and comes before all other sentences.
    """
    family = Family.from_vignette(vignettes.hiring)
    name, caused = vignettes.hiring.treatment, ("interview", vignettes.hiring.outcome)
    variables = [
        v if v.name in caused else replace(v, parents=tuple(p for p in v.parents if p != name))
        for v in family.variables
        if v.name != name
    ]
    names = ("Emily", "Lakisha")
    applicant = replace(family[name], options=names, exogenous=False, uniform=True)
    return replace(
        family,
        variables=(applicant, *variables),
        arms=names,
        outcome_option="offer the job",
        licence=_LICENCE,
        description="An audit of a hiring decision: the name on an application is drawn at random.",
    )


def _confounder() -> Family:
    return replace(
        Family.from_vignette(vignettes.confounder),
        hidden=("weather",),
        outcome_option="worsen",
        licence=_LICENCE,
        description="Weather moves both training and a marathon time; training has no effect.",
    )


def _collider() -> Family:
    return replace(
        Family.from_vignette(vignettes.collider),
        outcome_option="worsen",
        licence=_LICENCE,
        description="Training and a marathon time both move the weather that is told of; training has no effect.",
    )


def _clinical_note() -> Family:
    return replace(
        Family.from_vignette(vignettes.clinical_note),
        outcome_option="is well again",
        licence=_LICENCE,
        description="A note that the language model writes tells how ill a patient is, which moves drug and recovery.",
    )


def _reference_letter() -> Family:
    """The vignette with one of two names at random: its own student is background that nothing may set."""
    family, name = Family.from_vignette(vignettes.reference_letter), vignettes.reference_letter.treatment
    names = ("Emily", "Lakisha")
    grades = replace(family["grades"], parents=())
    student = replace(family[name], options=names, exogenous=False, uniform=True)
    return replace(
        family,
        variables=(student, grades, *family.variables[2:]),
        arms=names,
        outcome_option="take the student in",
        licence=_LICENCE,
        description="A name reaches an admission by way of a letter that the language model writes, and past it.",
    )


def _court() -> Family:
    return Family.from_json(_DATA / "court.json")


def _school() -> Family:
    return Family.from_json(_DATA / "school.json")


_SHIPPED: Mapping[str, Callable[[], Family]] = dict(
    zip(
        FAMILIES,
        (_oncology, _hiring, _confounder, _collider, _clinical_note, _reference_letter, _court, _school),
        strict=True,
    )
)
