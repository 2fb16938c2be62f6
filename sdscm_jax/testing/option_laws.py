"""The order of options, and options that do not win, change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro.primitives import Messenger

from .. import checks
from ..dsl.handlers.exogenous import exogenous
from ..dsl.language.choice import Choice
from ..dsl.noise.streams import as_key, fold_in
from ..engine.simulate import as_arguments
from .execution import TOLERANCE
from .failure import fail

LOSER = "something else entirely"


class _Relisted(Messenger):
    """Lets every choice choose again, with the same key, from its options in another order and from one more."""

    def __init__(self, fn: Callable, tolerance: float):
        self.tolerance = tolerance
        self.found: dict[str, dict[str, tuple[Array, Array, Array]]] = {}
        self.options: dict[str, tuple[str, ...]] = {}
        super().__init__(fn)

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        choice = msg["fn"] if msg["type"] == "sample" and not msg["is_observed"] else None
        if not isinstance(choice, Choice) or choice.coupling.ordered or choice.lm.absent:
            return
        key = msg["kwargs"]["rng_key"]
        count = len(choice.options)
        orders = {"in reverse order": list(reversed(range(count)))}
        # The walk of constrained decoding depends on all options.
        if choice.scoring.odds_by_themselves and LOSER not in choice.options:
            orders[f"with {LOSER!r} beside them"] = [count, *range(count)]
        clear = choice.coupling.lead(choice.logits, choice.draw_noise(key, choice.batch_shape)) > self.tolerance
        self.options[msg["name"]] = (*choice.options, LOSER)
        self.found[msg["name"]] = {}
        for name, order in orders.items():
            other = choice.replace(
                options=tuple((*choice.options, LOSER)[k] for k in order),
                bias=None if choice.bias is None else _with_loser(choice.bias)[..., order],
                known_scores=None,
            )
            again = jnp.asarray(order)[other.sample(key)]
            right = (again == msg["value"]) | (again == count) | ~clear
            self.found[msg["name"]][name] = right, again, msg["value"]


def _with_loser(bias: Any) -> Array:
    return jnp.concatenate([jnp.asarray(bias), jnp.zeros_like(jnp.asarray(bias)[..., :1])], axis=-1)


def check_options(model: Callable, key: Any, *args: Any, units: int = 32, tolerance: float = TOLERANCE) -> int:
    """Law 7b: neither the order of options nor an option that does not win changes what is chosen.

    Every choice with Gumbel noise chooses again with the same key, from its options in reverse, and (unless its
    scoring is ``"masked"``) with another one beside them.

    Args:
        model, key, args: as for ``simulate``.
        units: how many units.
        tolerance: choices whose two best options are closer, in nats, are not looked at.

    Returns:
        how many choices were compared.

    Raises:
        AssertionError: another option is chosen; it names site, unit and options.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import testing
    >>> def model(lm):
    ...     sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> testing.check_options(model, 0, testing.mock_lm(model), units=10)
    20
    """
    units, tolerance, key = checks.count(units, "units"), checks.real(tolerance, "tolerance", least=0), as_key(key)
    checks.takes(model, args)
    args = as_arguments(args)
    options: dict[str, tuple[str, ...]] = {}

    @jax.jit
    def run(args: tuple) -> dict[str, dict[str, tuple[Array, Array, Array]]]:
        def one(unit: Array) -> dict[str, dict[str, tuple[Array, Array, Array]]]:
            relisted = _Relisted(exogenous(model, fold_in(key, unit)), tolerance)
            with numpyro.handlers.block():
                relisted(*args)
            options.update(relisted.options)
            return relisted.found

        return jax.vmap(one)(jnp.arange(units, dtype=jnp.uint32))

    looked = 0
    for site, orders in run(args).items():
        for order, (right, again, value) in orders.items():
            for place in np.argwhere(~np.asarray(right))[:1]:
                chosen, expected = (options[site][int(x[tuple(place)])] for x in (again, value))
                fail(f"options {order}", site, f"{chosen!r}, expected {expected!r}", unit=place[0])
            looked += right.size
    return looked
