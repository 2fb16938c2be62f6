"""Quantised weights are those of the libraries that write them (``-m oracle``).

compressed-tensors and bitsandbytes quantise and undo it themselves; MXFP4 and fp8 are undone by transformers. GPTQ's
and AWQ's libraries need a compiler for CUDA: their formats are packed by hand in ``quantised_files``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sdscm_jax.models.quantised.registry import directory_tensors

from ..needs import needs
from .quantised_files import CASES, write_safetensors

pytestmark = pytest.mark.oracle
ALL = slice(None), slice(None)


def arrays(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """PyTorch's tensors as NumPy has them."""
    torch = needs("torch")
    bits = {
        torch.bfloat16: (torch.uint16, ml_dtypes.bfloat16),
        torch.float8_e4m3fn: (torch.uint8, ml_dtypes.float8_e4m3fn),
    }
    found = {}
    for name, value in state.items():
        if value.dtype in bits:
            as_bits, dtype = bits[value.dtype]
            found[name] = value.view(as_bits).numpy().view(dtype)
        else:
            found[name] = value.numpy()
    return found


def read(directory: Path, parts: dict[str, np.ndarray], settings: dict[str, Any]) -> np.ndarray:
    write_safetensors(directory / "model.safetensors", {f"a.{part}": value for part, value in parts.items()})
    (directory / "config.json").write_text(json.dumps({"quantization_config": settings}))
    return directory_tensors(directory).read("a.weight", ALL)


COMPRESSED = [name for name in CASES if name.startswith("compressed")]


@pytest.mark.parametrize("case", COMPRESSED)
def test_compressed_tensors(case: str, tmp_path: Path) -> None:
    """Quantised, packed and undone by the library."""
    torch = needs("torch")
    needs("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    settings = CASES[case][1]
    own = settings["config_groups"]["group_0"]["weights"]
    arguments = QuantizationArgs(**own)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    torch.manual_seed(3)
    weight = torch.randn(14, 40)
    blocks = {"tensor": weight.reshape(1, -1), "channel": weight[:, None], "group": weight.reshape(14, 5, 8)}
    if own["strategy"] == "block":
        blocks["block"] = weight.reshape(2, 7, 8, 5).transpose(1, 2).reshape(2, 8, 35)
    of = blocks[own["strategy"]]
    scale, zero = calculate_qparams(of.amin(-1), of.amax(-1), arguments)
    state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero.to(torch.int8)}
    compressor = BaseCompressor.get_value_from_registry(settings["format"])
    stored = compressor.compress(state, scheme)
    expected = compressor.decompress(dict(stored), scheme)["weight"].float().numpy()
    found = read(tmp_path, arrays(stored), settings)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    # (The library's own rounding, so that the comparison is of the weight that was given.)
    assert np.abs(found - weight.numpy()).max() < 0.6


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
def test_bitsandbytes(kind: str, nested: bool, tmp_path: Path) -> None:
    torch = needs("torch")
    library = needs("bitsandbytes")
    torch.manual_seed(4)
    weight = torch.randn(24, 66)
    packed, state = library.functional.quantize_4bit(weight, blocksize=64, quant_type=kind, compress_statistics=nested)
    expected = library.functional.dequantize_4bit(packed, state).numpy()
    parts = {"weight": packed} | {f"weight.{name}": value for name, value in state.as_dict(packed=True).items()}
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind}
    found = read(tmp_path, arrays(parts), settings)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert np.abs(found - weight.numpy()).max() < 0.6


def test_bitsandbytes_int8(tmp_path: Path) -> None:
    torch = needs("torch")
    library = needs("bitsandbytes")
    torch.manual_seed(4)
    weight = torch.randn(24, 40)
    values, largest, _ = library.functional.int8_vectorwise_quant(weight.half())
    parts = {"weight": values, "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    found = read(tmp_path, arrays(parts), {"quant_method": "bitsandbytes", "load_in_8bit": True})
    expected = library.functional.int8_vectorwise_dequant(values, largest).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.abs(found - weight.numpy()).max() < 0.05


def test_mxfp4(tmp_path: Path) -> None:
    torch = needs("torch")
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    rng = np.random.default_rng(0)
    blocks = rng.integers(256, size=(2, 6, 3, 16)).astype(np.uint8)
    scales = rng.integers(110, 135, size=(2, 6, 3)).astype(np.uint8)
    expected = convert_moe_packed_tensors(torch.tensor(blocks), torch.tensor(scales), dtype=torch.float32)
    write_safetensors(tmp_path / "model.safetensors", {"a.up_blocks": blocks, "a.up_scales": scales})
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "mxfp4"}}))
    found = directory_tensors(tmp_path).read("a.up", (slice(None),) * 3)
    np.testing.assert_array_equal(found, expected.numpy())


def test_fp8(tmp_path: Path) -> None:
    torch = needs("torch")
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    settings = {"quant_method": "fp8", "weight_block_size": [7, 5]}
    torch.manual_seed(1)
    weight = torch.randn(14, 40).to(torch.float8_e4m3fn)
    scales = torch.rand(2, 8)
    found = read(tmp_path, arrays({"weight": weight, "weight_scale_inv": scales}), settings)
    expected = Fp8Dequantize(None)._dequantize_one(weight, scales, torch.float32)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
