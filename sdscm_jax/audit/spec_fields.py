"""What the specification of an audit declares: an attribute, an outcome, what lies between them, its wording."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..dsl.scoring.template import Template
from ..errors import AuditError, nearest
from ..families import FamilyVariable


@dataclass(frozen=True)
class Proxy:
    """A way in which the attribute is conveyed, such as by a word or by a first name.

    Attributes:
        name: such as ``"first name"``.
        templates: wordings of the attribute's sentence, each with one blank.
        phrases: texts for the blank that stand for each level.
        drawn: the phrases are some of many that could have been taken, such as first names (True); or they are all that
            the audit is about, so that intervals are for these phrases alone.
    """

    name: str
    templates: tuple[Template, ...]
    phrases: dict[str, tuple[str, ...]]
    drawn: bool = True

    @property
    def paired(self) -> bool:
        """Has every level as many phrases? Then those at one place of their lists go together (Emily with Lakisha)."""
        return len({len(texts) for texts in self.phrases.values()}) == 1


@dataclass(frozen=True)
class FreeText:
    """Free text that a language model writes after the outcome, given every sentence; see ``Text``.

    Attributes:
        template: text with one blank, where it writes.
        max_tokens: most tokens that it may write.
        pattern: a regular expression that the text must match, if any.
    """

    template: str
    max_tokens: int = 24
    pattern: str | None = None


@dataclass(frozen=True)
class SpecFields:
    """What files hold of an audit; ``AuditSpec`` says what the fields are."""

    name: str
    title: str
    question: str
    attribute: str
    levels: tuple[str, ...]
    proxies: tuple[Proxy, ...]
    variables: tuple[FamilyVariable, ...]
    outcome: str
    option: str
    legitimate: tuple[str, ...] = ()
    not_legitimate: tuple[str, ...] = ()
    option_wordings: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    text: FreeText | None = None
    scorings: tuple[str, ...] = ("sequence", "mean")
    lms: tuple[str, ...] = ()
    can_show: str = ""
    cannot_show: str = ""
    source: str = ""
    licence: str = ""

    def variable(self, name: str) -> FamilyVariable:
        """The variable of that name.

        Raises:
            AuditError: there is none (the attribute is not among them).
        """
        for variable in self.variables:
            if variable.name == name:
                return variable
        known = nearest(name, [v.name for v in self.variables])
        raise AuditError(f"audit {self.name!r} has no variable {name!r}; {known}")

    @property
    def mediators(self) -> tuple[str, ...]:
        """Names of the variables between the attribute and the outcome, in causal order."""
        return tuple(v.name for v in self.variables if v.name in (*self.legitimate, *self.not_legitimate))

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the variables that are free text, in causal order."""
        return tuple(v.name for v in self.variables if v.written is not None)

    @property
    def absent(self) -> tuple[str, ...]:
        """Effects that are 0 whatever a language model says, as there is no such way."""
        direct = self.attribute in self.variable(self.outcome).parents
        ways = {"direct": direct, "illegitimate": self.not_legitimate, "legitimate": self.legitimate}
        return tuple(effect for effect, way in ways.items() if not way)

    @property
    def witnesses(self) -> tuple[tuple[str, str], ...]:
        """(legitimate mediator, mediator that is not) pairs for which some parts of an effect depend on the coupling.

        The first depends on the second, not only by way of legitimate ones, and so does the outcome.
        """
        doubtful, found = {name: {name} for name in self.not_legitimate}, []
        # Which mediators that are not legitimate a variable depends on, without a legitimate one between.
        seen: dict[str, set[str]] = {}
        for v in self.variables:
            seen[v.name] = set().union(*(seen.get(p, set()) for p in v.parents if p not in self.legitimate))
            seen[v.name] |= doubtful.get(v.name, set())
        for name in self.legitimate:
            found += [(name, other) for other in sorted(seen[name]) if other in seen[self.outcome]]
        return tuple(found)

    @property
    def relevant(self) -> tuple[str, ...]:
        """Names of the variables whose sentences bear on the outcome: itself and what it depends on, in order."""
        found = {self.outcome}
        for variable in reversed(self.variables):
            if variable.name in found:
                found.update(variable.parents)
        return tuple(v.name for v in self.variables if v.name in found)
