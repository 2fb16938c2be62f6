"""Quantised weights as other libraries write them, packed here number by number after their documents.

Every writer draws the integers, scales and zeros, works out the weight that they stand for (``zero`` and ``scale`` as
the format's paper has them), and lays them into words with Python's shifts: the other way than the package goes.

Sources: AutoGPTQ's ``nn_modules/qlinear/qlinear_cuda_old.py`` (``pack``), AutoAWQ's ``modules/linear/gemm.py``
(``from_linear``), compressed-tensors' ``compressors/pack_quantized/helpers.py``, bitsandbytes' ``functional.py``
(``QuantState.as_dict``), the MX specification 1.0, DeepSeek V3's ``inference/kernel.py``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

Tensors = dict[str, np.ndarray]
_KINDS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int8": "I8",
    "uint8": "U8",
    "int32": "I32",
    "int64": "I64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
}


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """A file of the format (its header is a length, JSON, and then the bytes), of dtypes that NumPy's writer lacks."""
    header, at, content = {}, 0, b""
    for name, array in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        where = [at, at + len(data)]
        header[name] = {"dtype": _KINDS[array.dtype.name], "shape": list(array.shape), "data_offsets": where}
        at, content = at + len(data), content + data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


@dataclass(frozen=True)
class Quantised:
    """One module's weight.

    Attributes:
        parts: what is stored, by what follows the module's name.
        weight: float64 ``[outputs, inputs]`` that it stands for.
    """

    parts: Tensors
    weight: np.ndarray


def words(values: np.ndarray, bits: int, order: tuple[int, ...] | None = None) -> np.ndarray:
    """Rows of integers as int32 words: ``32 / bits`` to each, the first of ``order`` in the lowest bits."""
    each = 32 // bits
    rows, count = values.shape
    found = np.zeros((rows, -(-count // each)), np.uint32)
    for row in range(rows):
        for word in range(found.shape[1]):
            total = 0
            for place in range(each):
                column = word * each + (place if order is None else order[place])
                total |= (int(values[row, column]) if column < count else 0) << (bits * place)
            found[row, word] = total
    return found.view(np.int32)


def _scales(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (0.01 * (1 + rng.random(shape))).astype(np.float16)


def gptq(rng: np.random.Generator, outputs: int, inputs: int, settings: dict[str, Any]) -> Quantised:
    bits, size = settings["bits"], settings["group_size"]
    groups = 1 if size == -1 else inputs // size
    values = rng.integers(1 << bits, size=(inputs, outputs))
    zeros = np.full((groups, outputs), 1 << (bits - 1))
    if not settings["sym"]:
        zeros = rng.integers(1 << bits, size=(groups, outputs))
    scales = _scales(rng, groups, outputs)
    of = np.arange(inputs) // (inputs // groups)
    if settings["desc_act"]:
        of = rng.permutation(of)
    weight = (values - zeros[of]) * scales[of].astype(np.float64)
    stored = zeros if settings.get("checkpoint_format") == "gptq_v2" else (zeros - 1) % (1 << bits)
    parts = {"qweight": words(values.T, bits).T, "qzeros": words(stored, bits), "scales": scales}
    if settings["desc_act"] or settings["sym"]:
        parts["g_idx"] = of.astype(np.int32)
    return Quantised(parts, weight.T)


def awq(rng: np.random.Generator, outputs: int, inputs: int, settings: dict[str, Any]) -> Quantised:
    groups = inputs // settings["group_size"]
    values, zeros = rng.integers(16, size=(inputs, outputs)), rng.integers(16, size=(groups, outputs))
    scales = _scales(rng, groups, outputs)
    of = np.arange(inputs) // settings["group_size"]
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    parts = {"qweight": words(values, 4, order), "qzeros": words(zeros, 4, order), "scales": scales}
    return Quantised(parts, ((values - zeros[of]) * scales[of].astype(np.float64)).T)


def fp8(rng: np.random.Generator, outputs: int, inputs: int, settings: dict[str, Any]) -> Quantised:
    values = rng.normal(size=(outputs, inputs)).astype(ml_dtypes.float8_e4m3fn)
    if size := settings.get("weight_block_size"):
        scales = _scales(rng, -(-outputs // size[0]), -(-inputs // size[1])).astype(np.float32)
        of = scales[np.arange(outputs)[:, None] // size[0], np.arange(inputs)[None] // size[1]]
        return Quantised({"weight": values, "weight_scale_inv": scales}, values.astype(np.float64) * of)
    if settings["quant_method"] == "fbgemm_fp8":
        scales = _scales(rng, outputs, 1).astype(np.float32)
        parts = {"weight": values, "weight_scale": scales, "input_scale_ub": np.array([1200.0], np.float32)}
        return Quantised(parts, values.astype(np.float64) * scales)
    scale = np.array(0.015, ml_dtypes.bfloat16)
    parts = {"weight": values, "weight_scale_inv": scale, "activation_scale": np.array(1.5, ml_dtypes.bfloat16)}
    return Quantised(parts, values.astype(np.float64) * float(scale))


def compressed(rng: np.random.Generator, outputs: int, inputs: int, settings: dict[str, Any]) -> Quantised:
    scheme = settings["config_groups"]["group_0"]["weights"]
    bits, strategy, symmetric = scheme["num_bits"], scheme["strategy"], scheme["symmetric"]
    if strategy == "block":
        size = scheme["block_structure"]
        scales = _scales(rng, -(-outputs // size[0]), -(-inputs // size[1])).astype(np.float32)
        of = scales[np.arange(outputs)[:, None] // size[0], np.arange(inputs)[None] // size[1]]
    else:
        groups = inputs // scheme["group_size"] if strategy == "group" else 1
        scales = _scales(rng, *((1,) if strategy == "tensor" else (outputs, groups))).astype(ml_dtypes.bfloat16)
        of = np.broadcast_to(np.repeat(scales.reshape(-1, groups), inputs // groups, 1), (outputs, inputs))
    if scheme["type"] == "float":
        values = rng.normal(size=(outputs, inputs)).astype(ml_dtypes.float8_e4m3fn)
        return Quantised(
            {"weight": values, "weight_scale": scales, "input_scale": scales.reshape(-1)[:1]},
            values.astype(np.float64) * of.astype(np.float64),
        )
    lowest = 1 << (bits - 1)
    values = rng.integers(-lowest, lowest, size=(outputs, inputs))
    zeros = np.zeros((outputs, groups), int) if symmetric else rng.integers(-lowest, lowest, size=(outputs, groups))
    weight = (values - np.repeat(zeros, inputs // groups, 1)) * of.astype(np.float64)
    if settings["format"] != "pack-quantized":
        parts = {"weight": values.astype(np.int8), "weight_scale": scales}
        return Quantised(parts | ({} if symmetric else {"weight_zero_point": zeros.astype(np.int8)}), weight)
    parts = {
        "weight_packed": words(values + lowest, bits),
        "weight_scale": scales,
        "weight_shape": np.array([outputs, inputs]),
    }
    if not symmetric:
        parts["weight_zero_point"] = words((zeros + lowest).T, bits).T
    return Quantised(parts, weight)


def bitsandbytes(rng: np.random.Generator, outputs: int, inputs: int, settings: dict[str, Any]) -> Quantised:
    if settings.get("load_in_8bit"):
        values, largest = rng.integers(-127, 128, size=(outputs, inputs)), _scales(rng, outputs).astype(np.float32)
        parts = {"weight": values.astype(np.int8), "SCB": largest, "weight_format": np.array(0, np.uint8)}
        return Quantised(parts, values * largest[:, None].astype(np.float64) / 127)
    kind, block, count = settings["bnb_4bit_quant_type"], 8, outputs * inputs
    table, blocks = np.sort(rng.uniform(-1, 1, 16)).astype(np.float32), -(-count // block)
    values = rng.integers(16, size=count)
    pairs = [*values, 0] if count % 2 else [*values]
    packed = np.array([high << 4 | low for high, low in zip(pairs[::2], pairs[1::2], strict=True)], np.uint8)
    state: dict[str, Any] = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": [outputs, inputs]}
    parts: Tensors = {"weight": packed[:, None], "weight.quant_map": table}
    if settings["bnb_4bit_use_double_quant"]:
        state |= {"nested_blocksize": 4, "nested_dtype": "float32", "nested_offset": 0.25}
        of_blocks, inner = rng.integers(256, size=blocks), rng.uniform(-1, 1, 256).astype(np.float32)
        outer = _scales(rng, -(-blocks // 4)).astype(np.float32)
        parts |= {"weight.absmax": of_blocks.astype(np.uint8), "weight.nested_absmax": outer}
        parts["weight.nested_quant_map"] = inner
        largest = inner[of_blocks].astype(np.float64) * outer[np.arange(blocks) // 4] + 0.25
    else:
        largest = _scales(rng, blocks).astype(np.float32)
        parts["weight.absmax"] = largest
    text = json.dumps(state).encode()
    parts[f"weight.quant_state.bitsandbytes__{kind}"] = np.frombuffer(text, np.uint8)
    weight = table[values].astype(np.float64) * largest[np.arange(count) // block]
    return Quantised(parts, weight.reshape(outputs, inputs))


def _group(**weights: Any) -> dict[str, Any]:
    return {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}


Writer = Callable[[np.random.Generator, int, int, dict[str, Any]], Quantised]
_GPTQ = {"quant_method": "gptq", "group_size": 8, "sym": False, "desc_act": False}
_PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed"}
_FOUR = {"quant_method": "bitsandbytes", "load_in_4bit": True}
_INT = {"type": "int", "group_size": None, "strategy": "channel"}

# Name -> how it is written, and the ``quantization_config``.
CASES: dict[str, tuple[Writer, dict[str, Any]]] = {
    "gptq, int4": (gptq, _GPTQ | {"bits": 4}),
    "gptq, int4, symmetric": (gptq, _GPTQ | {"bits": 4, "sym": True, "checkpoint_format": "gptq"}),
    "gptq, int8, reordered": (gptq, _GPTQ | {"bits": 8, "desc_act": True}),
    "gptq, int2, version 2": (gptq, _GPTQ | {"bits": 2, "group_size": -1, "checkpoint_format": "gptq_v2"}),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": 8, "version": "gemm", "zero_point": True}),
    "fp8, blocks": (fp8, {"quant_method": "fp8", "weight_block_size": [7, 5], "activation_scheme": "dynamic"}),
    "fp8, one scale": (fp8, {"quant_method": "fp8", "weight_block_size": None, "activation_scheme": "static"}),
    "fp8, outputs": (fp8, {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}),
    "compressed, int4": (
        compressed,
        _PACKED | {"config_groups": _group(num_bits=4, type="int", strategy="group", group_size=8, symmetric=True)},
    ),
    "compressed, int4 with zeros": (
        compressed,
        _PACKED | {"config_groups": _group(num_bits=4, type="int", strategy="group", group_size=8, symmetric=False)},
    ),
    "compressed, int8 packed": (compressed, _PACKED | {"config_groups": _group(**_INT, num_bits=8, symmetric=True)}),
    "compressed, int8": (
        compressed,
        _PACKED | {"format": "int-quantized", "config_groups": _group(**_INT, num_bits=8, symmetric=True)},
    ),
    "compressed, int8 with zeros": (
        compressed,
        _PACKED | {"format": "naive-quantized", "config_groups": _group(**_INT, num_bits=8, symmetric=False)},
    ),
    "compressed, fp8": (
        compressed,
        _PACKED
        | {
            "format": "float-quantized",
            "config_groups": _group(num_bits=8, type="float", strategy="tensor", symmetric=True),
        },
    ),
    "compressed, fp8 in blocks": (
        compressed,
        _PACKED
        | {
            "format": "float-quantized",
            "config_groups": _group(num_bits=8, type="float", strategy="block", block_structure=[7, 5], symmetric=True),
        },
    ),
    "bitsandbytes, nf4": (
        bitsandbytes,
        _FOUR | {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False},
    ),
    "bitsandbytes, fp4 nested": (
        bitsandbytes,
        _FOUR | {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True},
    ),
    "bitsandbytes, int8": (bitsandbytes, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
}
