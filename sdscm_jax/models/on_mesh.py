"""A language model on a device mesh, laid out as ``sharding`` says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding

from .checkpoint import abstract_decoder
from .language_model import LanguageModel
from .sharding import checked_mesh, expert_mesh, parameter_sharding, place


def shard_lm(lm: LanguageModel, mesh: Mesh) -> LanguageModel:
    """The language model with its parameters on a mesh; ``lm`` is left as it is.

    ``load_lm(source, mesh=mesh)`` gives the same without a device that has to hold all of it. With
    several processes each calls this with the same model.

    Args:
        lm: a model on one device, or on a mesh of the same devices.
        mesh: up to three axes, ``"data"``, ``"tensor"`` and ``"expert"``; see ``parameter_spec`` for the layout.

    Raises:
        SDSCMError: the axes of the mesh have other names, or the experts cannot be shared equally.

    >>> import sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> sharded = shard_lm(lm, jax.make_mesh((1, 1), ("data", "tensor")))
    >>> sharded.fingerprint() == lm.fingerprint(), mesh_of(sharded).axis_names, mesh_of(lm)
    (True, ('data', 'tensor'), None)
    """
    mesh = checked_mesh(mesh)

    def placed(path: tuple[Any, ...], value: Array) -> Array:
        dotted = ".".join(map(str, path))
        return place(value, parameter_sharding(dotted, value.shape, lm.config, mesh))

    flat = [(path, leaf.replace(placed(path, leaf.get_value()))) for path, leaf in nnx.to_flat_state(lm.params)]
    config = replace(lm.config, expert_mesh=expert_mesh(lm.config, mesh))
    graph = lm.graph if config == lm.config else abstract_decoder(config, lm.dtype)[0]
    return replace(lm, params=nnx.from_flat_state(flat), graph=graph)


def mesh_of(lm: LanguageModel) -> Mesh | None:
    """The mesh that the parameters lie on, with axes as in ``checked_mesh``.

    None if they lie on one device without a mesh, or are no arrays with a place: within ``jax.jit``
    ask before.

    Raises:
        SDSCMError: the axes of their mesh have other names.
    """
    for leaf in jax.tree.leaves(lm.params):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
            return checked_mesh(sharding.mesh)
    return None
