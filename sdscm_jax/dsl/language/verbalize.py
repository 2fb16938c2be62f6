"""``verbalize``: a number becomes a phrase, so that language can go on from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.primitives import apply_stack

from ...checks import finite, text, told
from ...errors import OptionError, SiteError
from ..scoring.template import Template, parse_options
from .messages import note
from .phrase import Phrase


def verbalize(name: str, value: Any, edges: Sequence[float], options: Sequence[str], template: str) -> Phrase:
    """Say a number in words: a deterministic site.

    Args:
        name: name of the site.
        value: a number or an array of them, such as the value of a NumPyro site.
        edges: K - 1 increasing numbers: option k says that ``edges[k-1] <= value < edges[k]``.
        options: K texts, from low to high.
        template: text with one blank ``{}``.

    Returns:
        a ``Phrase`` of the value's shape.

    Raises:
        SiteError: the name is not a non-empty string.
        TemplateError, OptionError: as for ``Choice``; or the edges do not increase, or are not one
            fewer than the options; or a value is NaN (where JAX traces it, the phrase is none of its options).

    >>> age = verbalize("age", jnp.array([34.0, 60.0]), [40, 65], ["young", "middle-aged", "old"], "She is {}.")
    >>> age.text.tolist()
    ['young', 'middle-aged']
    """
    text(name, "the name of a site", SiteError)
    parsed = Template.parse(template)
    texts = parse_options(options, parsed)
    if not isinstance(edges, jax.core.Tracer):
        numbers = finite(edges, f"site {name!r}: edges", OptionError, infinite=True)
        if numbers.shape != (len(texts) - 1,) or not (np.diff(numbers) > 0).all() or np.isnan(numbers).any():
            raise OptionError(
                f"site {name!r} has {len(texts)} options: edges are {len(texts) - 1} increasing numbers, "
                f"got {told(edges)}"
            )
    if not isinstance(value, jax.Array):
        finite(value, f"site {name!r}: the value", OptionError, infinite=False)
    value = jnp.asarray(value)
    if not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == bool):
        raise OptionError(f"site {name!r}: numbers are said in words, got an array of {value.dtype}")
    number = ~jnp.isnan(value)
    if not isinstance(number, jax.core.Tracer) and not number.all():
        raise OptionError(f"site {name!r}: nan is no number that can be said in words")
    index = jnp.searchsorted(jnp.asarray(edges, jnp.float32), value, side="right").astype(jnp.int32)
    index = jnp.where(number, index, -1)
    phrase = Phrase(index, parsed, texts, name)
    # NumPyro's deterministic, with what the handlers of this package need to know.
    message = {"type": "deterministic", "name": name, "value": index, "cond_indep_stack": []}
    note(message, phrase=phrase)
    return phrase.at(apply_stack(message)["value"])
