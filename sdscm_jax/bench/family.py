"""Families of SD-SCMs: one causal structure, several wordings of each variable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..dsl.choice import Choice
from ..dsl.phrase import Phrase
from ..dsl.site import sample
from ..dsl.template import Template, parse_options
from ..errors import SDSCMError, SiteError, nearest
from ..models.language_model import LanguageModel
from ..vignettes import Vignette


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
        return phrases[self.family.outcome or self.family.variables[-1].name]


@dataclass(frozen=True)
class Family:
    """A causal structure over phrases, with alternatives for the wording.

    Attributes:
        name: a short identifier.
        variables: in causal order.
        treatment, outcome: variables that questions are about; None where none is declared.
        hidden: variables that a hidden-confounding setting withholds.
    """

    name: str
    variables: tuple[FamilyVariable, ...]
    treatment: str | None = None
    outcome: str | None = None
    hidden: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> FamilyVariable:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise SiteError(
            f"family {self.name!r} has no variable {name!r}; {nearest(name, [v.name for v in self.variables])}"
        )

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
    def from_reference_json(cls, source: str | Path | Mapping[str, Any]) -> Family:
        """Read a family in the format of the paper's published code.

        Args:
            source: path of the JSON file, or its content.

        Raises:
            SDSCMError: the content is not of that format; the message says where.

        >>> family = Family.from_reference_json({"setup_sequence_sample_space": [
        ...     {"variable_name": "mood", "possible_prefix_suffix_pairs": [["I am ", "."]],
        ...      "candidate_set": ["glad", "sad"], "parent_indices": None, "exogenous": False}]})
        >>> family["mood"].options
        ('glad', 'sad')
        """
        content = source if isinstance(source, Mapping) else json.loads(Path(source).read_text())
        variables: list[FamilyVariable] = []
        try:
            entries: Sequence[Mapping[str, Any]] = content["setup_sequence_sample_space"]
            for entry in entries:
                templates = tuple(Template(*pair) for pair in entry["possible_prefix_suffix_pairs"])
                name, how = entry["variable_name"], entry.get("intervention_choice")
                if how not in (None, "uniform"):
                    raise SDSCMError(
                        f"variable {name!r}: intervention_choice {how!r} is not supported; use handlers.do"
                    )
                indices = entry["parent_indices"] or []
                if any(not 0 <= i < len(variables) for i in indices):
                    raise SDSCMError(f"variable {name!r} has parent_indices {indices}; parents come first")
                variables.append(
                    FamilyVariable(
                        name,
                        parse_options(entry["candidate_set"], templates[0]),
                        templates,
                        tuple(variables[i].name for i in sorted(indices)),
                        bool(entry["exogenous"]),
                        how == "uniform",
                    )
                )
        except (KeyError, IndexError, TypeError) as error:
            raise SDSCMError(f"not a family in the reference's format: {type(error).__name__}: {error}") from error

        def role(field: str) -> str | None:
            index = content.get(field)
            return None if index is None else variables[index].name

        return cls(
            str(content.get("experiment_name", "family")),
            tuple(variables),
            role("index_of_intervention"),
            role("index_of_outcome"),
        )
