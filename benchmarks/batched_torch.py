"""The default scores in PyTorch, many units at once: what one would write in an afternoon, for speed.

Same law and same tokens as ``Choice(scoring="sequence")``: an option's score is the log-probability
of option and suffix after the text so far, summed over tokens. float32, models of ``transformers``.

- Units go through the model together, a row each. Units with the same text so far share a row until
  their draws part them.
- One call of the model a site: what is not encoded yet of the sentence before, the template up to
  the blank, and all options side by side, where a token sees its own option only (a mask of four
  dimensions). Common beginnings of options are computed once.
- Keys and values stay from site to site, in buffers that are written in place. Those of the drawn
  option are moved up, not computed again. Rows of different lengths have gaps, which are masked.
- The output head is applied where its result is read.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers.activations import NewGELUActivation
from transformers.cache_utils import Cache, DynamicLayer

from sdscm_jax.dsl.scoring.option_tree import OptionTree, chain_tree, padded
from sdscm_jax.dsl.scoring.template import Template
from sdscm_jax.families import FamilyVariable, Member
from sdscm_jax.models.codec import Codec, Tokens
from sdscm_jax.models.options import OptionTokens, option_tokens

# The more units, the more share a row; GPT-2 small needs 3 GB of memory for so many.
UNITS = 64
# Logits of so many tokens of the vocabulary are made at a time.
TOKENS_AT_ONCE = 2048


class Count(Protocol):
    """What went through the language model; ``reference_torch.Count`` is one."""

    tokens: int
    forwards: int


@torch.inference_mode()
def run_batch(
    model: Any,
    tokenizer: Any,
    member: Member,
    units: int = UNITS,
    generator: torch.Generator | None = None,
    *,
    fixed: Mapping[str, Tensor] | None = None,
    count: Count | None = None,
    merge: bool = True,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Run a member for a batch of units.

    Args:
        model: a ``GPT2LMHeadModel`` or ``LlamaForCausalLM``, float32, in evaluation mode.
        tokenizer: its tokenizer, or the library's ``Codec`` of it.
        member: templates, options and parents; its ``scoring`` is not looked at.
        units: number of units B.
        generator: source of the draws.
        fixed: option numbers ``[B]`` (or arrays of NumPy) that variables are set to; they are scored all the same.
        count: adds up the tokens (with padding, which is computed too) and forwards.
        merge: units with the same text so far share a row.

    Returns:
        Per variable the option numbers, int64 ``[B]``, and the log-probabilities of its options,
        float32 ``[B, K]``.
    """
    codec = tokenizer if isinstance(tokenizer, Codec) else Codec(tokenizer)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    sites: dict[str, Site] = {}
    scored: Scored | None = None
    for variable, wording in zip(member.family.variables, member.wordings, strict=True):
        site = sites[variable.name] = Site(codec, variable, variable.templates[wording])
        if variable.uniform:
            log_probs = torch.zeros(units, len(variable.options)).log_softmax(-1)
        else:
            history = [found[parent][0] for parent in variable.parents]
            row_of, first = group(history, units, merge)
            if scored is not None and variable.parents == scored.site.goes_on:
                text = choose(scored, scored.row_of[first], history[-1][first])
            else:
                given = [(sites[p], index[first]) for p, index in zip(variable.parents, history, strict=True)]
                text = begin(site, given, len(first))
            scores, text = score(model, site, text, count)
            scored = Scored(site, row_of, text)
            log_probs = scores.log_softmax(-1)[row_of]
        if fixed is not None and variable.name in fixed:
            indices = torch.as_tensor(fixed[variable.name]).long()
        else:
            indices = torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
        found[variable.name] = indices, log_probs
    return found


def fuse_activation(model: Any) -> Any:
    """GPT-2's GELU as one operation instead of eight: changes the model, and hands it back."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, torch.nn.GELU("tanh"))
    return model


@dataclass(frozen=True)
class Site:
    """What is static about a variable: its texts as tokens."""

    codec: Codec
    variable: FamilyVariable
    template: Template

    @cached_property
    def blank(self) -> OptionTokens:
        """The library's division into tokens that condition and tokens that are scored."""
        prefix, suffix = self.template
        first = not self.variable.parents
        return option_tokens(self.codec, prefix, self.variable.options, suffix, with_suffix=True, first=first)

    @cached_property
    def tree(self) -> OptionTree:
        """The N option tokens that something is read after, common beginnings once."""
        return chain_tree(self.blank.rows)

    @property
    def goes_on(self) -> tuple[str, ...] | None:
        """Parents of a site that reads on from this one, if any can.

        A start token that stands in for missing text is no part of what later sites are given.
        """
        return None if self.blank.needs_start else (*self.variable.parents, self.variable.name)

    def sentences(self, first: bool) -> list[Tokens]:
        """Tokens of the filled-in templates, at the start of a text or after other text."""
        encode = self.codec.encode if first else self.codec.encode_after
        return [encode(self.template.fill(option)) for option in self.variable.options]


class Slots(DynamicLayer):
    """One layer's keys and values, in buffers with room to grow.

    ``transformers``' own layer copies all of them at every call.
    """

    keys: Tensor | None
    values: Tensor | None
    used: int = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, self.used = self.used, self.used + key_states.shape[-2]
        self.keys = keys = _written(self.keys, start, key_states)
        self.values = values = _written(self.values, start, value_states)
        return keys[:, :, : self.used], values[:, :, : self.used]

    def get_seq_length(self) -> int:
        return self.used

    def keep(self, rows: Tensor, start: int, slots: Tensor) -> None:
        """Go on with these rows: the first ``start`` slots, then ``slots`` ``[len(rows), L]``."""
        assert self.keys is not None
        assert self.values is not None
        self.keys = _moved(self.keys, rows, start, slots)
        self.values = _moved(self.values, rows, start, slots)
        self.used = start + slots.shape[1]


def _written(buffer: Tensor | None, start: int, new: Tensor) -> Tensor:
    rows, heads, count, width = new.shape
    if buffer is None or buffer.shape[2] < start + count:
        larger = new.new_empty(rows, heads, 2 * (start + count), width)
        if buffer is not None:
            larger[:, :, :start] = buffer[:, :, :start]
        buffer = larger
    buffer[:, :, start : start + count] = new
    return buffer


def _moved(buffer: Tensor, rows: Tensor, start: int, slots: Tensor) -> Tensor:
    # Indexing by two tensors around a slice puts their axes first: [rows, L, heads, width].
    taken = buffer[rows[:, None], :, slots].transpose(1, 2)
    if not torch.equal(rows, torch.arange(len(buffer))):
        larger = buffer.new_empty(len(rows), *buffer.shape[1:])
        larger[:, :, :start] = buffer[rows, :, :start]
        buffer = larger
    buffer[:, :, start : start + slots.shape[1]] = taken
    return buffer


class Text(NamedTuple):
    """R texts: n encoded slots, of which the valid ones count, and P tokens that are still to be.

    Attributes:
        cache: keys and values; written in place, so a text is gone on from once.
        valid: bool ``[R, n]``.
        pending: int64 ``[R, P]``.
        pending_valid: bool ``[R, P]``.
    """

    cache: Cache
    valid: Tensor
    pending: Tensor
    pending_valid: Tensor


class Scored(NamedTuple):
    """A site whose options were scored; ``text`` ends at its blank, and the options' slots follow.

    Attributes:
        site: the site.
        row_of: int64 ``[B]``, the row of each unit.
        text: the texts, nothing pending.
    """

    site: Site
    row_of: Tensor
    text: Text


def group(history: Sequence[Tensor], units: int, merge: bool) -> tuple[Tensor, Tensor]:
    """The row of each unit ``[B]``, and a unit of each row ``[R]``; equal histories share a row."""
    everyone = torch.arange(units)
    if not merge:
        return everyone, everyone
    if not history:
        return torch.zeros_like(everyone), everyone[:1]
    # In lexicographic order: rows that do not part keep their places from site to site.
    kinds, row_of = torch.unique(torch.stack(list(history)), dim=1, return_inverse=True)
    first = torch.full((kinds.shape[1],), units).scatter_reduce(0, row_of, everyone, "amin")
    return row_of, first


def begin(site: Site, given: Sequence[tuple[Site, Tensor]], rows: int) -> Text:
    """The text before a site, nothing of it encoded.

    Args:
        site: the site.
        given: its parents, each with its option numbers ``[R]``.
        rows: R.
    """
    codec = site.codec
    start = codec.start if codec.bos is None and site.blank.needs_start else codec.bos
    tokens = [torch.full((rows, 0 if start is None else 1), start or 0)]
    valid = [torch.ones_like(tokens[0], dtype=torch.bool)]
    for i, (parent, index) in enumerate(given):
        sentence, real = _tensors(parent.sentences(first=i == 0))
        tokens.append(sentence[index])
        valid.append(real[index])
    nothing = torch.zeros(rows, 0, dtype=torch.bool)
    return Text(Cache(layer_class_to_replicate=Slots), nothing, torch.cat(tokens, 1), torch.cat(valid, 1))


def choose(scored: Scored, rows: Tensor, index: Tensor) -> Text:
    """The texts with an option in the blank.

    The tokens that were scored are those of the sentence, and all but its last were encoded for it.

    Args:
        scored: the site.
        rows: int64 ``[R]``, the rows to go on with.
        index: int64 ``[R]``, their options.
    """
    site, text = scored.site, scored.text
    encoded = text.valid.shape[1]
    paths, on_path = _tensors(
        [path[: len(row) - 1] for row, path in zip(site.blank.rows, site.tree.paths, strict=True)], index
    )
    for layer in text.cache.layers:
        layer.keep(rows, encoded, encoded + paths)
    pending = torch.tensor([row[-1] for row in site.blank.rows])[index][:, None]
    valid = torch.cat([text.valid[rows], on_path], 1)
    return Text(text.cache, valid, pending, torch.ones_like(pending, dtype=torch.bool))


def score(model: Any, site: Site, text: Text, count: Count | None = None) -> tuple[Tensor, Text]:
    """Encode what is pending, the template and the options; read the options' scores.

    Args:
        model, count: see ``run_batch``.
        site: the site.
        text: the text before it.

    Returns:
        Scores, float32 ``[R, K]``, and the text up to the blank.
    """
    tree, shared = site.tree, len(site.blank.shared)
    rows, pending = text.pending.shape
    before, old = pending + shared, text.valid.shape[1]
    new = torch.tensor([*site.blank.shared, *tree.tokens.tolist()], dtype=torch.long)
    tokens = torch.cat([text.pending, new.expand(rows, -1)], 1)
    real = torch.cat([text.pending_valid, torch.ones(rows, len(new), dtype=torch.bool)], 1)

    # Positions count what is real; a node of the tree stands at its depth after the blank.
    counted = text.valid.sum(1, keepdim=True) + real[:, :before].cumsum(1)
    after = text.valid.sum(1, keepdim=True) + real[:, :before].sum(1, keepdim=True)
    positions = torch.cat([(counted - 1).clamp(min=0), after + torch.as_tensor(tree.depth)], 1)

    sees = torch.ones(before + tree.size, before + tree.size).tril().bool()
    sees[before:, before:] = torch.as_tensor(tree.ancestors)
    own = sees & real[:, None, :] | torch.eye(len(sees), dtype=torch.bool)
    seen = torch.cat([text.valid[:, None, :].expand(-1, len(sees), -1), own], -1)
    # Added to the attention's logits; a mask of booleans is turned into this in every layer anew.
    mask = torch.zeros(rows, 1, len(sees), old + len(sees), dtype=model.dtype).masked_fill(
        ~seen[:, None], float("-inf")
    )

    base = model.base_model
    # transformers 5.24 renames the argument.
    named = "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"
    if count is not None:
        count.tokens += tokens.numel()
        count.forwards += 1
    hidden = base(
        tokens, attention_mask=mask, position_ids=positions, use_cache=True, **{named: text.cache}
    ).last_hidden_state

    # Read after the last real token before the blank, and after every node.
    last = (real[:, :before] * torch.arange(before)).argmax(1)
    read = torch.cat([hidden[torch.arange(rows), last][:, None], hidden[:, before:]], 1)
    head = model.get_output_embeddings().weight
    logits = (read[:, tree.edge_rows] * head[tree.edge_tokens]).sum(-1)
    edges = logits - log_normaliser(read, head)[:, tree.edge_rows]
    scored, counts = _tensors(tree.scored)
    scores = (edges[:, scored] * counts).sum(-1)
    nothing = tokens[:, :0]
    return scores, Text(text.cache, torch.cat([text.valid, real[:, :before]], 1), nothing, nothing.bool())


def log_normaliser(hidden: Tensor, head: Tensor) -> Tensor:
    """``logsumexp(hidden @ head.T)`` over the last axis, a part of the vocabulary at a time.

    The logits of a part stay in the processor's cache, and 50,257 columns are a bad shape for a matrix
    product: all at once takes half as long again (one core, MKL).
    """
    parts = []
    for some in head.split(TOKENS_AT_ONCE):
        logits = hidden.flatten(0, -2) @ some.t()
        top = logits.amax(-1)
        parts.append(top + logits.sub_(top[:, None]).exp_().sum(-1).log())
    return torch.stack(parts).logsumexp(0).view(hidden.shape[:-1])


def _tensors(lists: Sequence[Sequence[int]], index: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Lists (those at ``index``) padded to one length, int64, and which entries are real."""
    values, real = (torch.as_tensor(x) for x in padded(lists))
    if index is not None:
        values, real = values[index], real[index]
        longest = int(real.sum(1).max())
        values, real = values[:, :longest], real[:, :longest]
    return values.long(), real
