"""Specifications of audits: an attribute, an outcome, what lies between them, and how it is all worded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import checks
from ..catalogue import AUDITS
from ..checks import as_path
from ..errors import AuditError, nearest
from ..families import Family, FamilyVariable
from ..families.variables import in_causal_order
from ..vignettes import Vignette
from .spec_check import causal_structure, check_spec
from .spec_fields import Proxy, SpecFields
from .spec_file import from_content, read, to_dict, to_yaml

_SPECS = Path(__file__).parent / "specs"


@dataclass(frozen=True)
class AuditSpec(SpecFields):
    """What an audit asks: which effect has an attribute on an outcome?

    Attributes:
        name: a short identifier.
        title, question: what the report says above everything else.
        attribute: name of the attribute's site, the first of the program; its level is drawn uniformly.
        levels: of the attribute; the first is the reference.
        proxies: ways in which it is conveyed, each audited by itself.
        variables: all others, in causal order; their parents may name the attribute.
        outcome: name of the outcome.
        option: the option of it whose probability is reported.
        legitimate: mediators through which the attribute may rightly act.
        not_legitimate: the other mediators. Every variable on a path from the attribute to the outcome is in one.
        option_wordings: variable -> alternative texts of its options, each in the order of the options; the first
            is the variable's own. A variable that is not named has its own only.
        text: free text written after the outcome; None: none.
        scorings: of every choice; the first is the main one.
        lms: sources for ``load_lm``; none: the embedded default.
        can_show, cannot_show: limits of the audit, in plain words; the report prints them.
        source: where wordings and design come from.
        licence: of the wordings.

    Parents are put in causal order.

    Raises:
        AuditError: the specification is unusable; the message names the key, the value and what to change.

    >>> spec = audit_spec("hiring")
    >>> spec.levels, spec.mediators, spec.option
    (('white-sounding name', 'Black-sounding name'), ('test score', 'interview'), 'offer the job')
    """

    def __post_init__(self) -> None:
        check_spec(self, f"audit {self.name!r}")
        names = [self.attribute, *(v.name for v in self.variables)]
        object.__setattr__(self, "variables", in_causal_order(self.variables, names))

    def without(self, *names: str) -> AuditSpec:
        """The same audit with fewer sentences, for language models with a short context.

        No other sentence takes the place of one that is left out: what had it as a parent has one parent less. What
        the attribute reached only by way of it is a mediator no longer.

        Args:
            names: covariates and mediators to leave out.

        Raises:
            AuditError: a name is unknown, the attribute's or the outcome's, or the attribute reaches the outcome no
                longer.

        >>> audit_spec("hiring").without("test score").mediators
        ('interview',)
        """
        for name in names:
            checks.text(name, "the name of a variable", AuditError)
            if name in (self.attribute, self.outcome):
                role = "attribute" if name == self.attribute else "outcome"
                raise AuditError(f"audit {self.name!r}: {name!r} is the {role} and cannot be left out")
            self.variable(name)
        variables = tuple(
            replace(v, parents=tuple(p for p in v.parents if p not in names))
            for v in self.variables
            if v.name not in names
        )
        between = causal_structure(self.attribute, variables, self.outcome).mediators
        return replace(
            self,
            variables=variables,
            legitimate=tuple(m for m in self.legitimate if m in between),
            not_legitimate=tuple(m for m in self.not_legitimate if m in between),
            option_wordings={name: texts for name, texts in self.option_wordings.items() if name not in names},
        )

    def known_to(self, vignette: Vignette) -> AuditSpec:
        """The same audit with those phrases of the attribute alone that a vignette's texts have.

        They are all that there is of them in such texts, so they are not drawn: intervals are for these phrases. A
        proxy of which a level would be left without any is as it was.

        >>> from sdscm_jax.vignettes import hiring
        >>> audit_spec("hiring").known_to(hiring).proxies[0].phrases["Black-sounding name"]
        ('Lakisha', 'Jamal')
        """
        checks.instance(vignette, Vignette, "vignette", AuditError)
        options = {option for v in vignette.variables if v.name == self.attribute for option in v.options}
        proxies = []
        for proxy in self.proxies:
            texts = {level: tuple(t for t in all_ if t in options) for level, all_ in proxy.phrases.items()}
            fewer = texts != proxy.phrases and all(texts.values())
            proxies.append(replace(proxy, phrases=texts, drawn=False) if fewer else proxy)
        return replace(self, proxies=tuple(proxies))

    def texts(self) -> list[str]:
        """All templates, phrases and options: what a language model is to read."""
        found = [
            text for p in self.proxies for text in (*p.templates, *(t for all_ in p.phrases.values() for t in all_))
        ]
        return [str(text) for text in (*found, *(t for v in self.variables for t in (*v.templates, *v.options)))]

    def family(
        self, proxy: Proxy, phrases: Mapping[str, str], options: Mapping[str, Sequence[str]] | None = None
    ) -> Family:
        """The programs of one proxy: a member of the family is one choice of templates.

        The attribute is the treatment; its options are the phrases, in the order of the levels.

        Args:
            proxy: how the attribute is conveyed.
            phrases: level -> the text that stands for it.
            options: variable -> texts of its options, in their order; those left out are the variable's own.

        Raises:
            AuditError: a level has no phrase, or texts are not those of a variable's options.

        >>> spec = audit_spec("hiring")
        >>> names = {"white-sounding name": "Emily", "Black-sounding name": "Lakisha"}
        >>> family = spec.family(spec.proxies[0], names)
        >>> family.treatment, family.arms, family.mediators
        ('applicant', ('Emily', 'Lakisha'), ('test score', 'interview'))
        """
        where = f"audit {self.name!r}"
        if set(phrases) != set(self.levels):
            raise AuditError(f"{where}: one phrase for each level {self.levels} is needed, got {dict(phrases)}")
        texts = {v.name: v.options for v in self.variables}
        for name, chosen in (options or {}).items():
            count = len(self.variable(name).options)
            if len(chosen) != count:
                raise AuditError(f"{where}: {name!r} has {count} options, got {len(chosen)} texts: {tuple(chosen)}")
            texts[name] = tuple(chosen)
        attribute = FamilyVariable(
            self.attribute, tuple(phrases[level] for level in self.levels), proxy.templates, uniform=True
        )
        reported = self.variable(self.outcome).options.index(self.option)
        return Family(
            self.name,
            (attribute, *(replace(v, options=texts[v.name]) for v in self.variables)),
            treatment=self.attribute,
            outcome=self.outcome,
            outcome_option=texts[self.outcome][reported],
            licence=self.licence,
            description=self.question,
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> AuditSpec:
        """Read a specification from a mapping in the layout of the YAML files.

        Raises:
            AuditError: it is unusable; the message names the key, the value and what to change.

        >>> spec = audit_spec("loan")
        >>> AuditSpec.from_dict(spec.to_dict()) == spec
        True
        """
        return cls(**vars(from_content(content)))

    @classmethod
    def read(cls, path: str | Path) -> AuditSpec:
        """Read a specification from a YAML file.

        Raises:
            AuditError: it is unusable; the message names the file, the key, the value and what to change.
        """
        found = read(path)
        try:
            return cls(**vars(found))
        except AuditError as error:
            # A specification calls itself by its name; who reads a file looks for the file.
            raise AuditError(str(error).replace(f"audit {found.name!r}", str(path), 1)) from error

    def to_dict(self) -> dict[str, Any]:
        """The specification as ``from_dict`` reads it: mappings, lists, texts, numbers and truth values only."""
        return to_dict(self)

    def to_yaml(self) -> str:
        """The specification as YAML; ``read`` reads it back from a file."""
        return to_yaml(self)


def audit_spec(name_or_path: str | Path) -> AuditSpec:
    """A specification that comes with the package, or the one of a YAML file.

    Args:
        name_or_path: one of ``AUDITS``, or the path of a file. A shipped name is not looked for among files; a
            ``Path`` always is a file.

    Raises:
        AuditError: it is neither, or the file is no specification.

    >>> audit_spec("headline").levels
    ('national newspaper', 'anonymous blog', 'social media post')
    >>> audit_spec("hirring")
    Traceback (most recent call last):
    sdscm_jax.errors.AuditError: 'hirring' is neither an audit nor a file; did you mean 'hiring'? (known: 'hiring', \
'hiring_gender', 'triage', 'headline', 'loan', 'reference_letter')
    """
    if isinstance(name_or_path, str) and name_or_path in AUDITS:
        return AuditSpec.read(_SPECS / f"{name_or_path}.yaml")
    path = as_path(name_or_path, "an audit", AuditError)
    if not path.exists():
        raise AuditError(f"{str(name_or_path)!r} is neither an audit nor a file; {nearest(str(name_or_path), AUDITS)}")
    return AuditSpec.read(path)
