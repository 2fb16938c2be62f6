"""The published procedure in PyTorch, from its description: what the library is compared with.

One unit at a time, batch size 1, float32. For each variable one forward of everything before the
blank, then one forward of each option on that prefix's keys and values. An option's score is the
mean over its tokens of their log-probability in the one distribution *after* the option (Bynum and
Cho 2024, arXiv 2411.08019, as their code computes it; the suffix is not scored). An option is drawn
from the softmax of the scores.

Each option is scored on the prefix's own cache, as the published data were. (Recent versions of
``transformers`` extend a cache in place; carried over unchanged, the published loop would score
every option but the first after the options before it.)
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from sdscm_jax.families import Member


@dataclass
class Count:
    """What went through the language model."""

    tokens: int = 0
    forwards: int = 0


@dataclass(frozen=True)
class Unit:
    """One unit: per variable the option drawn and the scores of all options, in nats."""

    indices: dict[str, int] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)


def full_prefix(context_texts: Sequence[str], prefix: str) -> str:
    """What stands before the blank: a space before each parent's text and before the prefix."""
    return "".join(" " + text for text in (*context_texts, prefix))


@torch.inference_mode()
def score_options(
    model: Any,
    tokenizer: Any,
    context_texts: Sequence[str],
    prefix: str,
    options: Sequence[str],
    *,
    count: Count | None = None,
    last_logits_only: bool = False,
) -> list[float]:
    """Scores of one site's options.

    Args:
        model: a causal language model of ``transformers``, float32, in evaluation mode.
        tokenizer: its tokenizer; what it adds to a text (BOS) stands before every option too.
        context_texts: filled-in sentences of the parents, in causal order.
        prefix: the template's text before the blank.
        options: texts that may fill the blank.
        count: adds up the tokens and forwards.
        last_logits_only: skip the output head where its result is not read. The published code does
            not; it makes no difference to the scores.
    """

    cache = DynamicCache(config=model.config)
    # transformers 5.24 renames the argument.
    named = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"

    def forward(tokens: Tensor) -> Any:
        if count is not None:
            count.tokens += tokens.shape[-1]
            count.forwards += 1
        extra = {"logits_to_keep": 1} if last_logits_only else {}
        return model(tokens, **{named: cache}, use_cache=True, **extra)

    def encode(text: str) -> Tensor:
        return tokenizer(text, return_tensors="pt").input_ids

    forward(encode(full_prefix(context_texts, prefix)))
    scores = []
    for option in options:
        tokens = encode(option)
        after = forward(tokens).logits[0, -1].log_softmax(-1)
        scores.append(after[tokens[0]].mean().item())
        # The forward has appended the option to the cache; a negative number says how many to drop.
        cache.crop(-tokens.shape[-1])
    return scores


def run_unit(
    model: Any,
    tokenizer: Any,
    member: Member,
    generator: torch.Generator | None = None,
    *,
    fixed: Mapping[str, int] | None = None,
    count: Count | None = None,
    last_logits_only: bool = False,
) -> Unit:
    """Run a member for one unit.

    Args:
        model, tokenizer: see ``score_options``.
        member: templates, options and parents; its ``scoring`` is not looked at.
        generator: source of the draws.
        fixed: options that variables are set to; they are scored all the same.
        count, last_logits_only: see ``score_options``.
    """
    unit, sentences = Unit(), {}
    for variable, wording in zip(member.family.variables, member.wordings, strict=True):
        template = variable.templates[wording]
        if variable.uniform:
            scores = [0.0] * len(variable.options)
        else:
            context = [sentences[parent] for parent in variable.parents]
            scores = score_options(
                model, tokenizer, context, template.prefix, variable.options,
                count=count, last_logits_only=last_logits_only,
            )  # fmt: skip
        if fixed is not None and variable.name in fixed:
            index = fixed[variable.name]
        else:
            index = int(torch.multinomial(torch.tensor(scores).softmax(-1), 1, generator=generator))
        unit.indices[variable.name], unit.scores[variable.name] = index, scores
        sentences[variable.name] = template.fill(variable.options[index])
    return unit


def run_units(
    model: Any,
    tokenizer: Any,
    member: Member,
    n: int,
    seed: int = 0,
    *,
    count: Count | None = None,
    last_logits_only: bool = False,
) -> Iterator[Unit]:
    """Run a member for ``n`` units, one after another."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        yield run_unit(model, tokenizer, member, generator, count=count, last_logits_only=last_logits_only)
