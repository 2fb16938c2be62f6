"""How close a language model's conditional probabilities are to those of a vignette.

Plain on purpose: every option is written out in full and scored from its first token, without
caches, so that it is an independent check of the faster paths.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..vignettes import Vignette
from ..vignettes.conditionals import Conditionals
from .language_model import LanguageModel
from .options import option_tokens


@jax.jit
def _row_scores(lm: LanguageModel, tokens: jax.Array, scored: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(lm.logits(tokens)[:, :-1])
    taken = jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]
    return (taken * scored[:, 1:]).sum(-1)


def conditional_probabilities(
    lm: LanguageModel,
    vignette: Vignette,
    name: str,
    values: np.ndarray,
    wordings: np.ndarray,
    shown: np.ndarray | None = None,
    batch: int = 64,
) -> np.ndarray:
    """P(option | the sentences shown before) of one variable under the language model.

    Args:
        lm: the language model; its tokenizer must begin texts with BOS.
        vignette: the vignette.
        name: the variable.
        values: int ``[n, variables]``, option indices of the units.
        wordings: int ``[n, variables]``, which wording tells each variable.
        shown: bool ``[n, variables]``, which of the earlier sentences a unit's text shows; by default those that the
            vignette shows: all or the parents.
        batch: rows that go through the model at once.

    Returns:
        float64 ``[n, K]``.
    """
    j, codec = vignette.index(name), lm.codec
    variable = vignette.variables[j]
    if shown is None:
        shown = np.zeros((len(values), len(vignette.variables)), bool)
        shown[:, list(range(j)) if vignette.given_all else [vignette.index(p) for p in variable.parents]] = True
    rows: list[list[int]] = []
    starts: list[int] = []
    for value, wording, told in zip(values, wordings, shown, strict=True):
        context = " ".join(
            vignette.variables[i].wordings[wording[i]].format(vignette.variables[i].options[value[i]])
            for i in np.flatnonzero(told[:j])
        )
        prefix, suffix = variable.wordings[wording[j]].split("{}")
        blank = option_tokens(codec, prefix, variable.options, suffix, with_suffix=True, first=not context)
        assert codec.begin
        shared = [codec.begin[0], *lm.prompt_tokens, *codec.begin[1:], *codec.encode(context), *blank.shared]
        for scored_tokens in blank.rows:
            rows.append([*shared, *scored_tokens])
            starts.append(len(shared))
    # Few distinct lengths, so that few programs are compiled.
    width = -(-max(map(len, rows)) // 32) * 32
    tokens, scored = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.float32)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        tokens[i, : len(row)], scored[i, start : len(row)] = row, 1.0
    padding = (-len(rows)) % batch
    tokens, scored = np.pad(tokens, ((0, padding), (0, 0))), np.pad(scored, ((0, padding), (0, 0)))
    scores = np.concatenate(
        [
            np.asarray(_row_scores(lm, tokens[i : i + batch], scored[i : i + batch]))
            for i in range(0, len(tokens), batch)
        ]
    )[: len(rows)].reshape(len(values), -1)
    weights = np.exp(np.float64(scores) - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def calibration(
    lm: LanguageModel, vignette: Vignette, units: int, seed: int, *, left_out: bool = False
) -> dict[str, float]:
    """Mean absolute difference between the model's and the vignette's conditional probabilities.

    Units and wordings are drawn from ``seed``; the mean is over units and options.

    Args:
        lm: the language model; its tokenizer must begin texts with BOS.
        vignette: the vignette.
        units: how many to draw for each variable.
        seed: of units and wordings.
        left_out: True where texts leave sentences out: half of the units show a variable's parents only, half show each
            earlier sentence with a probability that is uniform itself. What is left out is summed over in the truth.

    Returns:
        variable name -> mean absolute difference.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax.vignettes import confounder
    >>> max(calibration(sd.load_lm(), confounder, units=20, seed=7).values()) < 0.1
    True
    """
    rng = np.random.default_rng(seed)
    values = vignette.sample(rng, units)
    wordings = rng.integers([len(v.wordings) for v in vignette.variables], size=values.shape)
    conditionals = Conditionals(vignette)
    found = {}
    for j, v in enumerate(vignette.variables):
        shown, truth = None, vignette.probabilities(v.name, values)
        if left_out:
            shown = rng.random(values.shape) < rng.random((units, 1))
            parents = [vignette.index(p) for p in v.parents]
            shown[::2] = np.isin(np.arange(len(vignette.variables)), parents)
            truth = np.concatenate(
                [
                    conditionals(value[None], (*np.flatnonzero(told[:j]).tolist(), j))[-1]
                    for value, told in zip(values, shown, strict=True)
                ]
            )
        difference = conditional_probabilities(lm, vignette, v.name, values, wordings, shown) - truth
        found[v.name] = float(np.abs(difference).mean())
    return found
