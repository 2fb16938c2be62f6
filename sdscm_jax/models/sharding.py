"""Device meshes: which part of which parameter of a language model lies on which device.

The decoder knows nothing of this. Its parameters are placed, and the compiler (GSPMD) splits the
computation accordingly and inserts the communication. A mesh has up to three axes, by name:

- ``"data"``: devices that hold the same parameters and compute different rows of a batch.
- ``"tensor"``: devices that share the parameters as in Megatron-LM (Shoeybi et al. 2019, arXiv
  1909.08053): what projects into heads or into the MLP's hidden layer is split by columns, what
  projects back by rows, the embedding and the head by vocabulary, and norms are not split. Each
  layer then needs two sums over the devices.
- ``"expert"``: devices each of which has some experts of every layer (Shazeer et al. 2017, arXiv 1701.06538, section
  3.1); every device routes all tokens, computes its own experts, and the sum goes over the devices.

Several processes (``jax.distributed``) run the same program on one mesh; each has the parts of its
own devices. Functions that say they are collective must be called by every one of them.
"""

from __future__ import annotations

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..checks import told
from ..errors import SDSCMError
from .config import DecoderConfig
from .experts import EXPERT
from .mixer_config import Alone, Heads

DATA = "data"
TENSOR = "tensor"

# Projection -> the size that counts what a device gets whole: a head is never cut in two.
_COLUMNS = {"query": "heads", "key": "kv_heads", "value": "kv_heads", "gate": "mlp_width", "up": "mlp_width"}
_ROWS = {"out": "heads", "down": "mlp_width"}
_VOCABULARY = ("embedding.embedding", "head", "layer_inputs.table.embedding")
_EXPERTS = ("blocks.experts.", "sparse.experts.")


def checked_mesh(mesh: Mesh) -> Mesh:
    """The mesh, with axes that leave the communication to the compiler.

    ``jax.make_mesh`` makes axes of type ``Explicit`` unless told otherwise, under which the decoder
    would have to say how its gathers are split; they become ``Auto`` here.

    Raises:
        SDSCMError: not a mesh, or one with an axis of another name.

    >>> checked_mesh(jax.make_mesh((1, 1), ("data", "tensor"))).axis_types
    (Auto, Auto)
    """
    expected = f"a jax.sharding.Mesh whose axes are named {DATA!r}, {TENSOR!r} and {EXPERT!r} (each may be left out)"
    if not isinstance(mesh, Mesh):
        raise SDSCMError(f"got {told(mesh)} as a mesh, expected {expected}")
    if not mesh.axis_names or not set(mesh.axis_names) <= {DATA, TENSOR, EXPERT}:
        raise SDSCMError(f"got a mesh with axes {mesh.axis_names}, expected {expected}")
    if all(kind == AxisType.Auto for kind in mesh.axis_types):
        return mesh
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def parameter_spec(path: str, shape: tuple[int, ...], config: DecoderConfig, mesh: Mesh) -> PartitionSpec:
    """How one parameter is split over the ``"tensor"`` axis; never over ``"data"``.

    A parameter that the axis does not divide is replicated; keys and values are split only if
    their heads can be. Those of experts are split by expert over ``"expert"``, too.

    Args:
        path: dotted path, see ``checkpoint.parameter_paths``.
        shape: its shape; parameters of blocks have a leading axis of layers, which is never split.
        config: the switches of the decoder.
        mesh: the mesh.

    Raises:
        SDSCMError: the axes of the mesh have other names.

    >>> from sdscm_jax.models.families import tiny_config
    >>> mesh = jax.make_mesh((1, 1), ("data", "tensor"))
    >>> parameter_spec("blocks.up.kernel", (2, 32, 48), tiny_config(), mesh)  # one device: nothing to split
    P()
    """
    size = axis_size(mesh, TENSOR)
    axis, units = _split_axis(path, shape, config)
    by_axis: dict[int, str] = {}
    if size > 1 and axis is not None and not units % size and not shape[axis] % size:
        by_axis[axis] = TENSOR
    if path.startswith(_EXPERTS) and expert_mesh(config, mesh) is not None:
        by_axis[1] = EXPERT
    return PartitionSpec(*(by_axis.get(i) for i in range(max(by_axis, default=-1) + 1)))


def expert_mesh(config: DecoderConfig, mesh: Mesh | None) -> Mesh | None:
    """The mesh, where it has an axis over which the experts of a decoder lie.

    Raises:
        SDSCMError: its devices cannot have equally many.
    """
    size = axis_size(mesh, EXPERT)
    if mesh is None or config.experts is None or size == 1:
        return None
    if config.experts.count % size:
        raise SDSCMError(f"{size} devices along {EXPERT!r} cannot share {config.experts.count} experts equally")
    return checked_mesh(mesh)


def _split_axis(path: str, shape: tuple[int, ...], config: DecoderConfig) -> tuple[int | None, int]:
    """The axis that may be split, and the number of things along it that may not."""
    if path in _VOCABULARY:
        return 0, shape[0]
    *_, module, kind = ("", *path.split("."))
    mixer = dict(config.mixers).get(path.split(".", 1)[0])
    if mixer is not None:
        if not isinstance(mixer, Heads | Alone):
            return None, 1  # recurrences and convolutions: of all heads, which one convolution goes over
        config = config.of(mixer)
    # What is split of an expert is its own hidden layer.
    hidden = None if config.experts is None or not path.startswith(_EXPERTS) else config.experts.width
    if module == "latent" or ".latent." in path:
        return None, 1  # of all heads, which share what is kept
    # The outputs: last in the kernel, and all of bias and scale. What a change of low rank reads has others.
    if module in _COLUMNS and kind != "a":
        return len(shape) - 1, hidden or getattr(config, _COLUMNS[module])
    if module in _ROWS and kind in ("kernel", "a"):  # the inputs; the bias is added once, after the sum
        return len(shape) - 2, hidden or getattr(config, _ROWS[module])
    return None, 1


def parameter_sharding(path: str, shape: tuple[int, ...], config: DecoderConfig, mesh: Mesh) -> NamedSharding:
    """``parameter_spec`` on the mesh, with axes as in ``checked_mesh``."""
    return NamedSharding(checked_mesh(mesh), parameter_spec(path, shape, config, mesh))


def axis_size(mesh: Mesh | None, name: str) -> int:
    """Number of devices along an axis; 1 where there is no such axis, or no mesh.

    >>> axis_size(jax.make_mesh((1,), ("data",)), "tensor"), axis_size(None, "tensor")
    (1, 1)
    """
    return 1 if mesh is None else checked_mesh(mesh).shape.get(name, 1)


def data_axis_size(mesh: Mesh | None) -> int:
    """In how many parts ``over_data`` splits a batch, whose leading axis this has to divide."""
    return axis_size(mesh, DATA)


def over_data(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch: the leading axis is split over ``"data"``, the others are not split.

    >>> over_data(jax.make_mesh((1, 1), ("data", "tensor"))).spec
    P('data',)
    """
    mesh = checked_mesh(mesh)
    return NamedSharding(mesh, PartitionSpec(DATA) if DATA in mesh.axis_names else PartitionSpec())


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of what every device has a copy of."""
    return NamedSharding(checked_mesh(mesh), PartitionSpec())


def place(value: Array | np.ndarray, sharding: NamedSharding) -> Array:
    """The array, distributed. With several processes each has the same whole ``value``, and keeps
    what lies on its own devices; this moves nothing between them.

    Raises:
        ValueError: an axis that is split is not divisible.

    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> place(np.zeros((4, 2)), over_data(mesh)).sharding == over_data(mesh)
    True
    """
    if isinstance(value, Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(place(jax.random.key_data(value), sharding), impl=jax.random.key_impl(value))
    # Between processes device_put would first compare the values, by sending all of them around.
    if sharding.is_fully_addressable or not getattr(value, "is_fully_addressable", True):
        return jax.device_put(value, sharding)
    whole = np.asarray(value)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def gather(value: Array | np.ndarray) -> np.ndarray:
    """The whole array on the host, in every process; collective if it is spread over processes.

    >>> gather(jax.numpy.arange(3))
    array([0, 1, 2], dtype=int32)
    """
    if getattr(value, "is_fully_addressable", True) or value.is_fully_replicated:  # type: ignore[union-attr]
        return np.asarray(value)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(value, tiled=True))
