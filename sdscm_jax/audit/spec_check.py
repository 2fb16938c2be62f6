"""Checks of an audit's specification, made before any language model works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..checks import count, one_of
from ..dsl.scoring.scorings.registry import SCORINGS
from ..dsl.scoring.template import BLANK, Template
from ..errors import AuditError, FamilyError, TemplateError, nearest
from ..families import FamilyVariable
from ..families.declaration import Declaration as Structure
from ..families.variables import check_structure
from .spec_fields import FreeText, Proxy, SpecFields


def check_spec(spec: SpecFields, where: str) -> None:
    """Refuse a specification that cannot be audited.

    Args:
        spec: as declared.
        where: what a message calls it.

    Raises:
        AuditError: see the messages below.
    """
    _check_attribute(spec, where)
    _check_variables(spec, where)
    _check_outcome(spec, where)
    _check_mediators(spec, where)
    _check_option_wordings(spec, where)
    if spec.text is not None:
        _check_text(spec.text, where)
    if not spec.scorings:
        raise AuditError(f"{where}: scorings: there are none; the first one is the main one, such as 'sequence'")
    # A language model that is not asked has no effect to report.
    asked = tuple(scoring for scoring in SCORINGS if scoring.asks_lm)
    for scoring in spec.scorings:
        one_of(scoring, asked, "scoring", AuditError, f"{where}: scorings")
    _check_distinct(spec.scorings, f"{where}: scorings")
    _check_distinct(spec.lms, f"{where}: lms")


def causal_structure(attribute: str, variables: Sequence[FamilyVariable], outcome: str) -> Structure:
    """The causal structure of an audit; the attribute's sentence is a stand-in.

    Raises:
        FamilyError: the variables are no program.
    """
    first = FamilyVariable(attribute, (attribute,), (Template("", ""),), uniform=True)
    return Structure(attribute, (first, *variables), attribute, outcome)


def _check_attribute(spec: SpecFields, where: str) -> None:
    where = f"{where}: attribute"
    _check_distinct(spec.levels, f"{where}: levels")
    if len(spec.levels) < 2:
        raise AuditError(
            f"{where}: levels: at least two are compared, got {list(spec.levels)}; name the reference first, "
            "then the others"
        )
    if not spec.proxies:
        raise AuditError(f"{where}: proxies: there are none; at least one says how {spec.attribute!r} is conveyed")
    _check_distinct([proxy.name for proxy in spec.proxies], f"{where}: proxies")
    for proxy in spec.proxies:
        _check_proxy(proxy, spec.levels, f"{where}: proxies: {proxy.name!r}")


def _check_proxy(proxy: Proxy, levels: tuple[str, ...], where: str) -> None:
    _check_templates(proxy.templates, f"{where}: templates")
    for level in proxy.phrases:
        if level not in levels:
            raise AuditError(f"{where}: phrases: there is no level {level!r}; {nearest(level, levels)}")
    owner: dict[str, str] = {}
    for level in levels:
        if not proxy.phrases.get(level):
            raise AuditError(f"{where}: phrases: the level {level!r} has none; add a text that stands for it")
        for phrase in proxy.phrases[level]:
            if not phrase.strip():
                raise AuditError(f"{where}: phrases: the level {level!r} has an empty one: {phrase!r}")
            if phrase in owner:
                raise AuditError(
                    f"{where}: phrases: {phrase!r} stands for {owner[phrase]!r} and again for {level!r}; keep one"
                )
            owner[phrase] = level


def _check_variables(spec: SpecFields, where: str) -> None:
    names = [v.name for v in spec.variables]
    for i, v in enumerate(spec.variables):
        place = f"{where}: variables[{i}] ({v.name!r})"
        if v.name == spec.attribute:
            raise AuditError(f"{place}: name: that is the attribute's name, which is no variable; rename one of them")
        for parent in v.parents:
            if parent != spec.attribute and parent not in names:
                known = nearest(parent, [spec.attribute, *(name for name in names if name != v.name)])
                raise AuditError(f"{place}: parents: there is no variable {parent!r}; {known}")
        _check_distinct(v.parents, f"{place}: parents")
    try:
        # The attribute is no variable of the file, and would count in the numbers of messages.
        check_structure(
            [replace(v, parents=tuple(p for p in v.parents if p != spec.attribute)) for v in spec.variables], where
        )
    except FamilyError as error:
        raise AuditError(str(error)) from error
    for i, v in enumerate(spec.variables):
        _check_templates(v.templates, f"{where}: variables[{i}] ({v.name!r}): templates")


def _check_outcome(spec: SpecFields, where: str) -> None:
    names = [v.name for v in spec.variables]
    if spec.outcome == spec.attribute:
        raise AuditError(f"{where}: outcome: {spec.outcome!r} is the attribute; name a variable that it may act on")
    if spec.outcome not in names:
        raise AuditError(f"{where}: outcome: there is no variable {spec.outcome!r}; {nearest(spec.outcome, names)}")
    options = spec.variable(spec.outcome).options
    if spec.outcome in spec.written:
        raise AuditError(
            f"{where}: outcome: {spec.outcome!r} is free text, which has no probability to report; add a variable with "
            f"options that reads it (a judge: parents: [{spec.outcome}]), and name that one"
        )
    if spec.option not in options:
        raise AuditError(
            f"{where}: outcome: {spec.outcome!r} has no option {spec.option!r}; {nearest(spec.option, options)}"
        )
    if len(options) < 2:
        raise AuditError(f"{where}: outcome: {spec.outcome!r} has one option only, so nothing can change it; add one")
    reached = causal_structure(spec.attribute, spec.variables, spec.outcome).descendants(spec.attribute)
    if spec.outcome not in reached:
        raise AuditError(
            f"{where}: outcome: no path leads from the attribute {spec.attribute!r} to {spec.outcome!r}; add "
            f"{spec.attribute!r} to its parents, or to those of a variable that it depends on"
        )
    for name in reached:
        place = f"{where}: variables[{names.index(name)}] ({name!r})"
        variable = spec.variable(name)
        if variable.exogenous:
            raise AuditError(
                f"{place}: exogenous: it depends on the attribute {spec.attribute!r}, and what is exogenous depends on "
                "nothing that is set; leave out 'exogenous', or the parents that lead there"
            )
        if variable.uniform:
            raise AuditError(
                f"{place}: uniform: it has parents that lead to the attribute {spec.attribute!r}, but is drawn without "
                "asking the language model; leave out 'uniform', or those parents"
            )


def _check_mediators(spec: SpecFields, where: str) -> None:
    where = f"{where}: mediators"
    family = causal_structure(spec.attribute, spec.variables, spec.outcome)
    names = [v.name for v in spec.variables]
    for key, declared in (("legitimate", spec.legitimate), ("not_legitimate", spec.not_legitimate)):
        _check_distinct(declared, f"{where}: {key}")
        for name in declared:
            if name in family.mediators:
                continue
            place = f"{where}: {key}: {name!r}"
            if name == spec.attribute:
                raise AuditError(f"{place} is the attribute; take it out")
            if name == spec.outcome:
                raise AuditError(f"{place} is the outcome; take it out")
            if name not in names:
                raise AuditError(f"{where}: {key}: there is no variable {name!r}; {nearest(name, names)}")
            if name in family.descendants(spec.attribute):
                reason = f"{spec.outcome!r} does not depend on it"
            else:
                reason = f"it does not depend on {spec.attribute!r}"
            raise AuditError(
                f"{place} is on no path from {spec.attribute!r} to {spec.outcome!r}, since {reason}; take it out, or "
                "change the parents"
            )
    for name in family.mediators:
        times = (name in spec.legitimate) + (name in spec.not_legitimate)
        if times == 2:
            raise AuditError(f"{where}: {name!r} is declared both legitimate and not_legitimate; keep one")
        if times == 0:
            raise AuditError(
                f"{where}: {name!r} is on a path from {spec.attribute!r} to {spec.outcome!r} and is declared neither "
                "legitimate nor not_legitimate; add it to one of them"
            )


def _check_option_wordings(spec: SpecFields, where: str) -> None:
    where = f"{where}: option_wordings"
    names = [v.name for v in spec.variables]
    for name, wordings in spec.option_wordings.items():
        if name == spec.attribute:
            raise AuditError(f"{where}: {name!r} is the attribute; its wordings are the phrases of its proxies")
        if name not in names:
            raise AuditError(f"{where}: there is no variable {name!r}; {nearest(name, names)}")
        options, place = spec.variable(name).options, f"{where}: {name!r}"
        if name in spec.written:
            raise AuditError(f"{place} is free text, which has no options; take it out")
        if not wordings or wordings[0] != options:
            first = list(wordings[0]) if wordings else "nothing"
            raise AuditError(f"{place}: the first wording is the options themselves, {list(options)}, got {first}")
        position: dict[str, int] = {}
        for j, texts in enumerate(wordings):
            if len(texts) != len(options):
                raise AuditError(
                    f"{place}[{j}]: a paraphrase has one text for each of the {len(options)} options {list(options)}, "
                    f"got {list(texts)}"
                )
            if texts in wordings[:j]:
                raise AuditError(f"{place}[{j}]: {list(texts)} is there already; take it out")
            for k, text in enumerate(texts):
                if not text.strip():
                    raise AuditError(f"{place}[{j}][{k}]: the text for {options[k]!r} is empty")
                if position.setdefault(text, k) != k:
                    raise AuditError(
                        f"{place}[{j}]: {text!r} stands for {options[k]!r} and for {options[position[text]]!r}; a "
                        "text stands for one option"
                    )


def _check_text(text: FreeText, where: str) -> None:
    try:
        Template.parse(text.template)
    except TemplateError as error:
        raise AuditError(f"{where}: text: template: {error}") from error
    count(text.max_tokens, f"{where}: text: max_tokens", AuditError)


def _check_templates(templates: Sequence[Template], where: str) -> None:
    if not templates:
        raise AuditError(f"{where}: there are none; a sentence with one blank {BLANK} is needed")
    for template in templates:
        if BLANK in template.prefix or BLANK in template.suffix:
            raise AuditError(f"{where}: {str(template)!r} has more than one blank {BLANK}")
    _check_distinct([str(template) for template in templates], where)


def _check_distinct(names: Sequence[str], where: str) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise AuditError(f"{where}: {name!r} is listed twice; keep one")
