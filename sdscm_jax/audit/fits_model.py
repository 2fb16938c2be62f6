"""Does an audit fit a language model? Its longest text against the model's context; and is every option possible?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..dsl.scoring.template import Template
from ..errors import AuditError
from ..families import FamilyVariable
from ..models.language_model import LanguageModel
from .spec import AuditSpec

# An option that is nowhere more likely than this never occurs in an audit.
NO_PROBABILITY = 1e-9


def check_context(spec: AuditSpec, name: str, lm: LanguageModel) -> None:
    """Refuse a language model whose context is too short for some wording, before it is run.

    Raises:
        AuditError: says how many tokens are needed, and what could be left out.
    """
    lengths = _sentence_tokens(spec, lm)
    limit = lm.config.max_positions
    needed = _longest(spec, lm, lengths)
    if needed <= limit:
        return
    said = (
        f"audit {spec.name!r} does not fit {name}: its texts have up to {needed} tokens, the language model has "
        f"{limit} positions"
    )
    shorter, changes = replace(spec, text=None), [] if spec.text is None else ["the free text (--no-text)"]
    # Covariates first: without a mediator, another effect is asked for.
    spare = [v.name for v in spec.variables if v.name not in (*spec.mediators, spec.outcome)]
    left_out: list[str] = []
    for variable in sorted(spare, key=lengths.__getitem__, reverse=True) + sorted(
        spec.mediators, key=lengths.__getitem__
    ):
        if _longest(shorter, lm, lengths) <= limit:
            break
        try:
            shorter = shorter.without(variable)
        except AuditError:
            # The attribute would reach the outcome no longer.
            continue
        left_out.append(variable)
    if _longest(shorter, lm, lengths) > limit:
        raise AuditError(f"{said}, too few even without other sentences; use a language model with a longer context")
    if left_out:
        changes.append(f"sentences (--without {','.join(left_out)!r})")
    raise AuditError(
        f"{said}. Leave out {' and '.join(changes)}, shorten the templates, or use a language model with a longer "
        "context"
    )


def _sentence_tokens(spec: AuditSpec, lm: LanguageModel) -> dict[str, int]:
    """Most tokens that each variable's sentence may have."""

    def longest(templates: tuple[Template, ...], options: list[str]) -> int:
        texts = [template.fill(option) for template in templates for option in options]
        return max(max(len(lm.codec.encode(text)), len(lm.codec.encode_after(text))) for text in texts)

    def of_variable(v: FamilyVariable) -> int:
        if v.written is None:
            return longest(
                v.templates, [o for options in spec.option_wordings.get(v.name, (v.options,)) for o in options]
            )
        return max(_around_text(template, lm) for template in v.templates) + v.written.max_tokens

    found = {v.name: of_variable(v) for v in spec.variables}
    found[spec.attribute] = max(
        longest(proxy.templates, [text for texts in proxy.phrases.values() for text in texts]) for proxy in spec.proxies
    )
    return found


def _longest(spec: AuditSpec, lm: LanguageModel, lengths: dict[str, int]) -> int:
    """Tokens of the longest text, with those around it; free text comes after every sentence."""
    texts = [lengths[v.name] + sum(lengths[p] for p in v.parents) for v in spec.variables]
    if spec.text is not None:
        own = _around_text(Template.parse(spec.text.template), lm)
        kept = [spec.attribute, *(v.name for v in spec.variables)]
        texts.append(sum(lengths[n] for n in kept) + spec.text.max_tokens + own)
    return lm.around + max(texts)


def _around_text(template: Template, lm: LanguageModel) -> int:
    """Tokens of a template without what is written into it."""
    return sum(len(lm.codec.encode_after(part)) for part in template if part.strip())


def check_options(spec: AuditSpec, name: str, options: tuple[str, ...], most: np.ndarray) -> None:
    """Refuse a language model that never gives an option of the outcome.

    Args:
        spec: the audit.
        name: of the language model.
        options: of the outcome, as they are worded.
        most: the greatest probability of each, in any context.

    Raises:
        AuditError: names the option and what to change.
    """
    for option, probability in zip(options, most, strict=True):
        if probability < NO_PROBABILITY:
            raise AuditError(
                f"audit {spec.name!r}: {name} gives the option {option!r} of {spec.outcome!r} no probability (at most "
                f"{probability:.1g}, in any context). Word it otherwise (options, option_wordings), or score options "
                "per token: scorings: [mean]"
            )
