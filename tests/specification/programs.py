"""From data to the library: model functions, and the values of interventions as people write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.contrib.control_flow import cond, scan

import sdscm_jax as sd

from .families import FAMILIES
from .language import (
    LAST,
    At,
    Choice,
    Computed,
    Cond,
    Linear,
    Mask,
    Nested,
    Number,
    Place,
    Plate,
    Policy,
    Program,
    Random,
    Said,
    Scan,
    Scope,
    Set,
    Soft,
    Uniform,
    World,
    places,
)


def build(program: Program) -> Callable[..., Any]:
    """The model function of a program; its arguments are the language models."""
    config = {p.name: sd.GumbelReparam() for p in places(program.body) if getattr(p.site, "reparam", "") == "around"}

    def model(*lms: sd.LanguageModel) -> Any:
        return _Build(lms).block(program.body, "", {})

    if not config:
        return model

    def explicit(*lms: sd.LanguageModel) -> Any:
        with numpyro.handlers.reparam(config=config):
            return model(*lms)

    return explicit


class _Build:
    def __init__(self, lms: tuple[sd.LanguageModel, ...]):
        self.lms = lms

    def block(self, body: tuple[Any, ...], prefix: str, values: dict[str, Any]) -> Any:
        last = None
        for s in body:
            match s:
                case Plate():
                    with numpyro.plate(s.name, s.size, dim=s.dim):
                        last = self.block(s.body, prefix, values)
                case Scope():
                    with numpyro.handlers.scope(prefix=s.prefix):
                        last = self.block(s.body, f"{prefix}{s.prefix}/", values)
                case Mask():
                    with numpyro.handlers.mask(mask=s.on):
                        last = self.block(s.body, prefix, values)
                case Scan():
                    _, last = scan(self.step(s, values), values[s.start], None, length=s.length)
                    values[prefix + s.step.name] = last
                case Cond():
                    branches = [lambda _, b=b: self.site(b, values) for b in (s.true, s.false)]
                    last = cond(_number(values[s.on]) != 0, *branches, None)
                    values[prefix + s.true.name] = last
                case _:
                    last = values[prefix + s.name] = self.site(s, values)
        return last

    def step(self, s: Scan, values: dict[str, Any]) -> Callable[..., Any]:
        def one(last: sd.Phrase, _: None) -> tuple[sd.Phrase, sd.Phrase]:
            phrase = self.site(s.step, {**values, LAST: last})
            return phrase, phrase

        return one

    def site(self, s: Any, values: dict[str, Any]) -> Any:
        match s:
            case Choice():
                given = [values[item.site] if isinstance(item, At) else item for item in s.given]
                fn = sd.Choice(
                    self.lms[s.lm], s.template, s.options, given=given, scoring=s.scoring, temperature=s.temperature,
                    coupling=s.coupling, bias=s.bias,
                )  # fmt: skip
                inside = {s.name: sd.GumbelReparam()} if s.reparam == "inside" else {}
                with numpyro.handlers.reparam(config=inside):
                    return sd.sample(s.name, fn, exogenous=s.exogenous, obs=s.obs)
            case Number():
                fn = FAMILIES[s.family].distribution(self.linear(s.of, values), s.scale)
                return sd.sample(s.name, fn, exogenous=s.exogenous)
            case Computed():
                frames = numpyro.primitives._PYRO_STACK
                shape = _plate_shape(frames)
                return numpyro.deterministic(s.name, jnp.broadcast_to(self.linear(s.of, values), shape))
            case Said():
                shape = _plate_shape(numpyro.primitives._PYRO_STACK)
                value = jnp.broadcast_to(_number(values[s.of]), shape)
                return sd.verbalize(s.name, value, s.edges, s.options, s.template)
        raise TypeError(s)

    def linear(self, of: Linear, values: dict[str, Any]) -> Any:
        shape = _plate_shape(numpyro.primitives._PYRO_STACK)
        total = jnp.asarray(of.constant, float)
        for name, coefficient in of.terms:
            value = _number(values[name])
            here = jnp.shape(value)
            inside = len(here) <= len(shape) and all(a in (1, b) for a, b in zip(here[::-1], shape[::-1], strict=False))
            total = total + coefficient * (value if inside else value.sum())
        return total


def _plate_shape(stack: Any) -> tuple[int, ...]:
    """The shape of the plates that are open."""
    sizes = {h.dim: h.size for h in stack if isinstance(h, numpyro.plate)}
    return tuple(sizes.get(d, 1) for d in range(min(sizes, default=0), 0))


def _number(value: Any) -> Any:
    return value.index if isinstance(value, sd.Phrase) else value


# -- interventions as they are written -----------------------------------------------------------------------


def written(world: World, program: Program, unit: Any = None) -> dict[str, Any]:
    """A world as ``do=`` and ``worlds=`` take it.

    Args:
        world: the world.
        program: the program.
        unit: the number of a unit (it may be traced), whose values those for each unit are; None: all of them.
    """
    known = {place.name: place for place in places(program.body)}
    return {name: _written(value, known.get(name), program, unit) for name, value in world}


def _written(change: Any, place: Place | None, program: Program, unit: Any) -> Any:
    options = getattr(place.site, "options", None) if place is not None else None
    whole = options is not None or (isinstance(place.site, Number) and FAMILIES[place.site.family].whole)  # type: ignore[union-attr]
    match change:
        case Set():
            value = _listed(change.value)
            if change.per_unit and unit is not None:
                if isinstance(unit, int):
                    value = value[unit]
                else:
                    numbers = [options.index(v) if isinstance(v, str) else v for v in value]  # type: ignore[union-attr]
                    return jnp.asarray(np.asarray(numbers))[unit]
            if change.form == "numpy":
                array = np.asarray(value)
                return array if array.ndim or array.dtype.kind == "U" else array[()]
            return value if change.form == "plain" or np.asarray(value).dtype.kind == "U" else jnp.asarray(value)
        case Uniform():
            return "uniform"
        case Random():
            return FAMILIES[change.family].distribution(jnp.asarray(change.location), change.scale)
        case Soft():
            a, b = (_exact(x) if whole else x for x in (change.a, change.b))
            if options is not None:
                return lambda natural: (a * _number(natural) + b) % len(options)
            return lambda natural: a * natural + b
        case Policy():
            value = options.index(change.value) if isinstance(change.value, str) else change.value  # type: ignore[union-attr]
            return lambda natural, earlier: jnp.where(_number(earlier[change.site]) > 0, value, _number(natural))
        case Nested():
            return sd.handlers.nested(written(change.world, program, unit))
    raise TypeError(change)


def _exact(x: float) -> Any:
    return int(x) if float(x).is_integer() else x


def _listed(value: Any) -> Any:
    return [_listed(v) for v in value] if isinstance(value, tuple) else value
