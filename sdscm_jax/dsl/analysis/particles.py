"""Unobserved causes of evidence among which are free texts: a draw from their posterior by sequential Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro.primitives import Messenger

from ..language.mechanism import with_mechanism
from ..language.messages import set_value
from ..language.text import Begun
from ..noise.streams import fold_in, stream, uniforms
from .causes import AT_ONCE, Runs, log_prob_of
from .structure import Site

# How often particles are weighed while a text is written (its last token among these).
LOOKS = 4


class Particles(NamedTuple):
    """What particles have found.

    Attributes:
        values: a draw of the causes, site name -> array.
        log_prob: float32 scalar, the log-probability of the evidence, as they estimate it; -inf where none explains it.
        ess: float32 scalar, how many particles of equal weight would be as good, at the look where they are fewest.
    """

    values: dict[str, Array]
    log_prob: Array
    ess: Array


class _Look(NamedTuple):
    """How far particles go, as int32 arrays.

    Attributes:
        kept: site -> what of its value stays: tokens of a text, 0 or 1 of another site.
        until: text -> tokens that it is written to.
    """

    kept: dict[str, Any]
    until: dict[str, Any]


class _Going(Messenger):
    """A particle goes on: what is kept of its values stays, texts are written up to somewhere."""

    def __init__(self, values: Mapping[str, Array], look: _Look):
        self.values, self.look = values, look
        super().__init__()

    def process_message(self, msg: dict[str, Any]) -> None:
        name = msg.get("name", "")
        if msg["type"] == "sample" and name in self.look.until:
            begun = Begun(self.values[name], self.look.kept[name], self.look.until[name])
            msg["fn"] = with_mechanism(msg["fn"], lambda text: text.replace(begun=begun))

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        name = msg.get("name", "")
        if msg["type"] == "sample" and name in self.values and name not in self.look.until:
            set_value(msg, jnp.where(self.look.kept[name] > 0, self.values[name], msg["value"]))


def particle_values(run: Runs, latent: Sequence[Site], count: int) -> Particles:
    """Draw unobserved causes given the evidence.

    Particles are drawn from the prior, site by site and text by text, and weighed by how probable the evidence is given
    them (importance sampling). While a text is written they are weighed several times, as if it ended there, and where
    few carry the weight those that do take the place of the others (sequential Monte Carlo with a twisted target;
    Lew et al. 2023, arXiv 2306.03081; Zhao et al. 2024, arXiv 2404.17546). What a look says is forgotten at the next
    one, so that the last weights are those of the evidence itself. Half of a look's weight is what particles have on
    average, so that no text dies because it only begins badly.

    Args:
        run: the model with its evidence.
        latent: the causes, in program order; one of them is free text.
        count: of the particles.
    """
    looks = _looks(latent)
    last = jnp.arange(len(jax.tree.leaves(looks)[0])) == len(jax.tree.leaves(looks)[0]) - 1
    key = stream(run.key, "particles")

    def go_on(number: Array, own: Array, values: dict[str, Array], look: _Look) -> tuple[dict[str, Array], Array]:
        particle = replace(run, key=fold_in(fold_in(key, number), own))
        with numpyro.handlers.block(), _Going(values, look):
            messages = particle.messages({})
        return {site.name: messages[site.name]["value"] for site in latent}, log_prob_of(messages, list(run.evidence))

    def weigh(carry: tuple[Any, ...], what: tuple[Array, _Look, Array]) -> tuple[tuple[Any, ...], None]:
        values, log_weights, before, ess = carry
        number, look, final = what
        values, found = jax.lax.map(
            lambda one: go_on(number, one[0], one[1], look), (jnp.arange(count), values), batch_size=AT_ONCE
        )
        mean = jax.nn.logsumexp(found) - math.log(count)
        floored = jnp.where(jnp.isneginf(mean), 0.0, jnp.logaddexp(found, mean) - math.log(2))
        now = jnp.where(final, found, floored)
        log_weights = log_weights + now - before
        total = jax.nn.logsumexp(log_weights)
        own = jnp.where(jnp.isneginf(total), 0.0, jnp.exp(2 * total - jax.nn.logsumexp(2 * log_weights)))
        move = ~final & (own < count / 2)
        chosen = jnp.where(move, _resampled(fold_in(stream(key, "resample"), number), log_weights), jnp.arange(count))
        values, now = jax.tree.map(lambda x: x[chosen], (values, now))
        log_weights = jnp.where(move, total - math.log(count), log_weights)
        return (values, log_weights, now, jnp.minimum(ess, own)), None

    nothing = {site.name: jnp.zeros((count, *site.shape), site.dtype) for site in latent}
    begin = nothing, jnp.zeros(count), jnp.zeros(count), jnp.float32(count)
    (values, log_weights, _, ess), _ = jax.lax.scan(weigh, begin, (jnp.arange(len(last)), looks, last))
    chosen = jax.random.categorical(stream(key, "chosen"), log_weights)
    total = jax.nn.logsumexp(log_weights) - math.log(count)
    return Particles({name: x[chosen] for name, x in values.items()}, total, ess)


def _resampled(key: Array, log_weights: Array) -> Array:
    """Numbers of particles, each about as often as its weight says: systematically (Kitagawa 1996)."""
    count = len(log_weights)
    cumulative = jnp.cumsum(jax.nn.softmax(log_weights))
    places = (jnp.arange(count) + uniforms(key, ())) / count * cumulative[-1]
    return jnp.minimum(jnp.searchsorted(cumulative, places, side="right"), count - 1)


def _looks(latent: Sequence[Site]) -> _Look:
    """Every look, with a leading axis of them: a few in each text, text after text.

    What stands before a text is drawn with its first tokens; what stands behind it is drawn anew at every look.
    """
    texts = [site for site in latent if site.kind == "text"]
    steps = []
    for number, text in enumerate(texts):
        most = text.shape[-1]
        ends = sorted({-(-most * look // LOOKS) for look in range(1, LOOKS + 1)})
        steps += [(number, begin, end) for begin, end in zip([0, *ends], ends, strict=False)]
    kept: dict[str, list[int]] = {site.name: [] for site in latent}
    until: dict[str, list[int]] = {site.name: [] for site in texts}
    order = [site.name for site in latent]
    for number, begin, end in steps:
        # The last text of which all that stands before it is settled.
        settled = order.index(texts[number].name) if begin else order.index(texts[number - 1].name) + 1 if number else 0
        for place, site in enumerate(latent):
            if site not in texts:
                kept[site.name].append(int(place < settled))
                continue
            own = texts.index(site)
            most = site.shape[-1]
            kept[site.name].append(most if own < number else begin if own == number else 0)
            until[site.name].append(end if own == number else most)
    return _Look(*({name: np.array(x, np.int32) for name, x in of.items()} for of in (kept, until)))
