"""A plain scorer: every option written out in full, tokenised at once and scored from logits, with
no cache, tree or trace. What the library computes is compared with this."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import sdscm_jax as sd


def _common(sequences: list[list[int]]) -> int:
    length = 0
    while all(len(s) > length for s in sequences) and len({s[length] for s in sequences}) == 1:
        length += 1
    return length


@jax.jit
def _log_probs(lm: sd.LanguageModel, tokens: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(lm.logits(tokens))


def option_log_probs(
    lm: sd.LanguageModel, context: str, template: str, options: list[str], scoring: str = "sequence"
) -> np.ndarray:
    """Scores of ``sequence``, ``option`` or ``mean``, float64 ``[K]``, in nats."""
    prefix, suffix = template.split("{}")
    before = f"{context} {prefix}" if context else prefix
    encode = lambda text: lm.tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    wholes = [encode(before + o + (suffix if scoring != "option" else "")) for o in options]
    start = min(_common([encode(before), whole]) for whole in wholes)
    start = min(start, *(len(whole) - 1 for whole in wholes))
    bos = [lm.codec.bos] if lm.codec.bos is not None else [] if start else [lm.tokenizer.eos_token_id]
    scores = []
    for whole in wholes:
        row = [*bos, *whole]
        padded = np.zeros(-(-len(row) // 32) * 32, np.int32)
        padded[: len(row)] = row
        log_probs = np.asarray(_log_probs(lm, jnp.asarray(padded)), np.float64)
        steps = [log_probs[i - 1, row[i]] for i in range(len(bos) + start, len(row))]
        scores.append(np.mean(steps) if scoring == "mean" else np.sum(steps))
    return np.array(scores)
