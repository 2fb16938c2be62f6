"""Families of SD-SCMs: one causal structure, several wordings of each variable."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..dsl.choice import Choice
from ..dsl.phrase import Phrase
from ..dsl.site import sample
from ..dsl.template import Template
from ..errors import SiteError, nearest
from ..models.language_model import LanguageModel
from ..vignettes import Vignette
from .check import check_structure


@dataclass(frozen=True)
class FamilyVariable:
    """One variable of a family.

    Attributes:
        name: its name.
        options: the K texts it may take.
        templates: wordings, each with one blank; a member uses one of them.
        parents: names of earlier variables whose sentences it is given, in causal order.
        exogenous: may it not be intervened on?
        uniform: is it drawn uniformly, without asking the language model?
    """

    name: str
    options: tuple[str, ...]
    templates: tuple[Template, ...]
    parents: tuple[str, ...] = ()
    exogenous: bool = False
    uniform: bool = False


@dataclass(frozen=True)
class Member:
    """One SD-SCM of a family: a model function of a language model.

    Attributes:
        family: the family.
        wordings: which wording each variable uses.
        scoring: scoring of every choice; see ``Choice``.

    >>> import jax, sdscm_jax as sd
    >>> model = Family.from_vignette(sd.vignettes.confounder).member(seed=0)
    >>> sd.graph(model, sd.load_lm())["gym"].parents
    ('name1', 'weather')
    """

    family: Family
    wordings: tuple[int, ...]
    scoring: str = "sequence"

    def __call__(self, lm: LanguageModel) -> Phrase:
        """Run the program; the value is the outcome's phrase (the last variable's, without one)."""
        phrases = self.phrases(lm)
        return phrases[self.family.outcome or self.family.variables[-1].name]

    def phrases(self, lm: LanguageModel) -> dict[str, Phrase]:
        """Run the program; the phrases of all variables, in causal order."""
        phrases: dict[str, Phrase] = {}
        for variable, wording in zip(self.family.variables, self.wordings, strict=True):
            choice = Choice(
                lm,
                variable.templates[wording],
                variable.options,
                given=[phrases[parent] for parent in variable.parents],
                scoring="uniform" if variable.uniform else self.scoring,
            )
            phrases[variable.name] = sample(variable.name, choice, exogenous=variable.exogenous)
        return phrases


@dataclass(frozen=True)
class Family:
    """A causal structure over phrases, with alternatives for the wording.

    Attributes:
        name: a short identifier.
        variables: in causal order.
        treatment, outcome: variables that questions are about; None where none is declared.
        hidden: variables that a hidden-confounding setting withholds.
        arms: the two options of the treatment that are compared, ``(low, high)``; if not given, its first two.
        outcome_option: the option whose probability is the outcome of a benchmark; if not given, the first one.
        licence: of the wordings, such as ``"Apache-2.0"``.
        description: what the family is about, in a sentence.

    Raises:
        FamilyError: the variables are no program; see ``check_structure``. Roles are checked where a file is read or
            written (``check_roles``).

    >>> from sdscm_jax.families import family
    >>> court = family("court")
    >>> court.treatment, court.mediators, court.outcome
    ('legal help', ('preparation', 'release plan'), 'bail')
    """

    name: str
    variables: tuple[FamilyVariable, ...]
    treatment: str | None = None
    outcome: str | None = None
    hidden: tuple[str, ...] = ()
    arms: tuple[str, str] | None = None
    outcome_option: str | None = None
    licence: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        check_structure(self.variables, f"family {self.name!r}")
        options = {v.name: v.options for v in self.variables}
        treated, results = options.get(self.treatment or "", ()), options.get(self.outcome or "", ())
        if self.arms is None and len(treated) > 1:
            object.__setattr__(self, "arms", treated[:2])
        if self.outcome_option is None and results:
            object.__setattr__(self, "outcome_option", results[0])

    def __getitem__(self, name: str) -> FamilyVariable:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise SiteError(
            f"family {self.name!r} has no variable {name!r}; {nearest(name, [v.name for v in self.variables])}"
        )

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Names of the variables that ``name`` depends on, through any number of others, in causal order.

        Raises:
            SiteError: there is no such variable.
        """
        found = set(self[name].parents)
        for v in reversed(self.variables):
            if v.name in found:
                found.update(v.parents)
        return self._in_order(found)

    def descendants(self, name: str) -> tuple[str, ...]:
        """Names of the variables that depend on ``name``, through any number of others, in causal order.

        Raises:
            SiteError: there is no such variable.
        """
        found = {self[name].name}
        for v in self.variables:
            if found.intersection(v.parents):
                found.add(v.name)
        return self._in_order(found - {name})

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the variables that neither the treatment nor the outcome reaches, in causal order."""
        roles = [name for name in (self.treatment, self.outcome) if name is not None]
        reached = {*roles, *(name for role in roles for name in self.descendants(role))}
        return self._in_order({v.name for v in self.variables} - reached)

    @property
    def mediators(self) -> tuple[str, ...]:
        """Names of the variables between the treatment and the outcome, in causal order."""
        if self.treatment is None or self.outcome is None:
            return ()
        return self._in_order({*self.descendants(self.treatment)} & {*self.ancestors(self.outcome)})

    def _in_order(self, names: AbstractSet[str | None]) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables if v.name in names)

    @property
    def size(self) -> int:
        """Number of members: the product of the numbers of wordings."""
        count = 1
        for variable in self.variables:
            count *= len(variable.templates)
        return count

    def member(self, seed: int, scoring: str = "sequence") -> Member:
        """The SD-SCM whose wordings are drawn from ``seed``, each uniformly."""
        rng = np.random.default_rng(seed)
        return Member(self, tuple(int(rng.integers(len(v.templates))) for v in self.variables), scoring)

    @classmethod
    def from_vignette(cls, vignette: Vignette) -> Family:
        """The family of a vignette's sentences; what a variable is given is what the embedded
        model was trained to be shown (see ``Vignette.given_all``)."""
        variables: list[FamilyVariable] = []
        for v in vignette.variables:
            earlier = tuple(e.name for e in variables)
            parents = earlier if vignette.given_all else tuple(p for p in earlier if p in v.parents)
            templates = tuple(Template.parse(w) for w in v.wordings)
            uniform = not vignette.given_all and v.name == "name2"
            variables.append(FamilyVariable(v.name, v.options, templates, parents, v.exogenous, uniform))
        return cls(vignette.name, tuple(variables), vignette.treatment, vignette.outcome, vignette.hidden)

    @classmethod
    def from_json(cls, source: str | Path | Mapping[str, Any]) -> Family:
        """Read a family in the package's own format (see ``docs/families.md``).

        Args:
            source: path of a JSON file (or a TOML file: suffix ``.toml``), its text, or its content.

        Raises:
            FamilyError: the content is not such a family; the message names the file and the key.

        >>> family = Family.from_json({"name": "rain", "variables": [
        ...     {"name": "sky", "options": ["clear", "grey"], "templates": ["The sky is {}.", "I see a {} sky."]},
        ...     {"name": "coat", "options": ["on", "off"], "templates": ["My coat is {}."], "parents": ["sky"]}]})
        >>> family.ancestors("coat")
        ('sky',)
        >>> Family.from_json(family.to_json()) == family
        True
        """
        # Imported here, since that module makes families.
        from .file import from_own

        return from_own(source)

    @classmethod
    def from_reference_json(cls, source: str | Path | Mapping[str, Any]) -> Family:
        """Read a family in the format of the paper's published code.

        Its ``intervention_choices`` give the arms (the first two), its ``possible_outcome_choices`` the option of the
        outcome (the first). It does not say what is hidden.

        Args:
            source: path of the JSON file, its text, or its content.

        Raises:
            FamilyError: the content is not of that format; the message names the file and the key.

        >>> family = Family.from_reference_json({"setup_sequence_sample_space": [
        ...     {"variable_name": "mood", "possible_prefix_suffix_pairs": [["I am ", "."]],
        ...      "candidate_set": ["glad", "sad"], "parent_indices": None, "exogenous": False}]})
        >>> family["mood"].options
        ('glad', 'sad')
        """
        from .file import from_reference

        return from_reference(source)

    @classmethod
    def read(cls, path: str | Path) -> Family:
        """Read a family from a file of either format, whichever its content is.

        Raises:
            FamilyError: it is neither; the message names the file and the key.
        """
        from .file import read

        return read(path)

    def to_json(self) -> str:
        """The family in the package's own format, as indented JSON; ``from_json`` reads it back.

        Raises:
            FamilyError: the roles are not those that ``from_json`` accepts, such as an exogenous treatment.
        """
        from .file import to_json

        return to_json(self)
