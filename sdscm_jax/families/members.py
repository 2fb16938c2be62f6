"""Families of SD-SCMs: one causal structure, several wordings of each variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..checks import instance, items
from ..dsl.language.choice import Choice
from ..dsl.language.phrase import Phrase
from ..dsl.language.site import sample
from ..dsl.language.text import Text
from ..dsl.scoring.scorings.registry import parse_scoring
from ..dsl.scoring.template import Template
from ..errors import FamilyError
from ..models.language_model import LanguageModel
from ..page.drawing import Panel, panel
from ..page.forms import Form, Shown, few
from ..page.graph_picture import EXOGENOUS, MOST_DRAWN, graph_axes, marked_boxes
from ..vignettes import Vignette
from .declaration import Declaration
from .file import from_own, from_reference, read, to_json
from .variables import FamilyVariable, Written

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Member:
    """One SD-SCM of a family: a model function of a language model.

    Attributes:
        family: the family.
        wordings: which wording each variable uses.
        scoring: scoring of every choice; see ``Choice``.

    Raises:
        OptionError: there is no such scoring.

    >>> import jax, sdscm_jax as sd
    >>> model = Family.from_vignette(sd.vignettes.confounder).member(seed=0)
    >>> sd.graph(model, sd.load_lm())["gym"].parents
    ('name1', 'weather')
    """

    family: Family
    wordings: tuple[int, ...]
    scoring: str = "sequence"

    def __post_init__(self) -> None:
        instance(self.family, Family, "the family of a member", FamilyError)
        parse_scoring(self.scoring, f"family {self.family.name!r}")
        wordings = items(self.wordings, f"family {self.family.name!r}: wordings of a member", FamilyError)
        if len(wordings) != len(self.family.variables):
            raise FamilyError(
                f"family {self.family.name!r} has {len(self.family.variables)} variables; wordings has {len(wordings)}"
            )
        for v, wording in zip(self.family.variables, wordings, strict=True):
            checks.count(wording, f"wording of {v.name!r}", FamilyError, least=0, most=len(v.templates) - 1)

    def __call__(self, lm: LanguageModel) -> Phrase:
        """Run the program; the value is the outcome's phrase (the last variable's, without one)."""
        phrases = self.phrases(lm)
        return phrases[self.family.outcome or self.family.variables[-1].name]

    def phrases(self, lm: LanguageModel) -> dict[str, Phrase]:
        """Run the program; the phrases of all variables, in causal order."""
        phrases: dict[str, Phrase] = {}
        for variable, wording in zip(self.family.variables, self.wordings, strict=True):
            given, template = [phrases[parent] for parent in variable.parents], variable.templates[wording]
            mechanism: Choice | Text
            if variable.written is None:
                scoring = "uniform" if variable.uniform else self.scoring
                mechanism = Choice(lm, template, variable.options, given=given, scoring=scoring)
            else:
                mechanism = _text(lm, template, given, variable.written)
            phrases[variable.name] = sample(variable.name, mechanism, exogenous=variable.exogenous)
        return phrases


def _text(lm: LanguageModel, template: Template, given: list[Phrase], how: Written) -> Text:
    return Text(
        lm,
        template,
        given=given,
        max_tokens=how.max_tokens,
        stop=how.stop or None,
        temperature=how.temperature,
        top_k=how.top_k,
        top_p=how.top_p,
        pattern=how.pattern,
    )


def _values(v: FamilyVariable) -> str:
    return few(v.options) if v.written is None else f"free text, at most {v.written.max_tokens} tokens"


@dataclass(frozen=True, repr=False)
class Family(Shown, Declaration):
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

    def _form(self) -> Form:
        facts = [(key, name) for key, name in (("treatment", self.treatment), ("outcome", self.outcome)) if name]
        if self.arms is not None:
            facts[:1] = [("treatment", f"{self.treatment}: {self.arms[0]} → {self.arms[1]}")]
        if self.outcome_option is not None:
            facts[1:2] = [("outcome", f"{self.outcome}: {self.outcome_option}")]
        if self.hidden:
            facts.append(("hidden", few(self.hidden)))
        if self.description:
            facts.append(("about", self.description))
        rows = [(v.name, few(v.parents) if v.parents else "", _values(v), len(v.templates)) for v in self.variables]
        title = f"Family: {self.name}, {len(self.variables)} variables, {self.size:,} members"
        return Form(title, facts, ("variable", "parents", "options", "wordings"), rows, picture=self._panel)

    def _panel(self) -> Panel | None:
        """The graph for a page; None: it is too large for one."""
        if len(self.variables) > MOST_DRAWN:
            return None
        notes = {v.name: EXOGENOUS if v.exogenous else None for v in self.variables}
        edges = [(parent, v.name) for v in self.variables for parent in v.parents]
        told = "; ".join(f"{v.name} depends on {', '.join(v.parents) or 'nothing'}" for v in self.variables)
        boxes = marked_boxes(notes, self.treatment, self.outcome)
        return panel(lambda: graph_axes(boxes, edges, key=True, widen=True), f"Causal graph. {told}.")

    def to_pandas(self) -> pd.DataFrame:
        """One row a variable, in causal order: ``kind``, ``options``, ``parents`` and ``templates`` (tuples),
        ``exogenous``."""
        import pandas as pd

        rows = [(v.kind, v.options, v.parents, tuple(map(str, v.templates)), v.exogenous) for v in self.variables]
        columns = ["kind", "options", "parents", "templates", "exogenous"]
        return pd.DataFrame(rows, pd.Index([v.name for v in self.variables], name="variable"), columns)

    @property
    def size(self) -> int:
        """Number of members: the product of the numbers of wordings."""
        count = 1
        for variable in self.variables:
            count *= len(variable.templates)
        return count

    def member(self, seed: int, scoring: str = "sequence") -> Member:
        """The SD-SCM whose wordings are drawn from ``seed``, each uniformly.

        Raises:
            FamilyError: the seed is none.
            OptionError: there is no such scoring.
        """
        rng = np.random.default_rng(checks.seed(seed, error=FamilyError))
        return Member(self, tuple(int(rng.integers(len(v.templates))) for v in self.variables), scoring)

    @classmethod
    def from_vignette(cls, vignette: Vignette) -> Family:
        """The family of a vignette's sentences; what a variable is given is what the embedded
        model was trained to be shown (see ``Vignette.given_all``). Its texts are free text."""
        variables: list[FamilyVariable] = []
        for v in vignette.variables:
            earlier = tuple(e.name for e in variables)
            parents = earlier if vignette.given_all else tuple(p for p in earlier if p in v.parents)
            templates = tuple(Template.parse(w) for w in v.wordings)
            uniform = not vignette.given_all and v.name == "name2"
            options, written = ((), Written()) if v.written else (v.options, None)
            variables.append(FamilyVariable(v.name, options, templates, parents, v.exogenous, uniform, written))
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
        return cls(**vars(from_own(source)))

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
        return cls(**vars(from_reference(source)))

    @classmethod
    def read(cls, path: str | Path) -> Family:
        """Read a family from a file of either format, whichever its content is.

        Raises:
            FamilyError: it is neither; the message names the file and the key.
        """
        return cls(**vars(read(path)))

    def to_json(self) -> str:
        """The family in the package's own format, as indented JSON; ``from_json`` reads it back.

        Raises:
            FamilyError: the roles are not those that ``from_json`` accepts, such as an exogenous treatment.
        """
        return to_json(self)
