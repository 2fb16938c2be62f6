"""How far float32 logits are from float64 ones, along a long text: this decoder's and PyTorch's own.

The truth is PyTorch in float64 on the same weights and tokens, one pass; rotary angles in float64 too (transformers
computes them in float32 whatever the model's dtype).

    python benchmarks/long_positions.py DIRECTORY [--length 1024] [--tokens FILE]

needs PyTorch (pip install '.[oracle]') and a directory with config.json and model.safetensors. Tokens are random, from
the seed, unless a file has them as numbers. Figures go to benchmarks/results/long_positions.md by hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from transformers import AutoModelForCausalLM

from sdscm_jax.models.checkpoint import abstract_decoder, load_parameters, read_directory_config

ROWS = ((0, 64), (64, 256), (256, 512), (512, 768), (768, 1024), (1024, 2048), (2048, 4096), (4096, 32768))


def exact_angles(model: Any) -> None:
    """Have a PyTorch model in float64 compute its rotary angles in float64."""
    for module in model.modules():
        if any(name.endswith("inv_freq") for name, _ in module.named_buffers(recurse=False)):
            module.forward = _forward(module, module.config.rope_parameters)


def _forward(module: Any, parameters: Any) -> Any:
    config = module.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def forward(x: Any, position_ids: Any, layer_type: str | None = None) -> Any:
        own = parameters if layer_type is None else parameters[layer_type]
        if own["rope_type"] != "default":
            raise ValueError(f"the float64 angles of rope_type {own['rope_type']!r} are not written here")
        size = int(head * own.get("partial_rotary_factor", 1.0))
        frequency = float(own["rope_theta"]) ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
        angle = position_ids[..., None].double() * frequency
        angle = torch.cat([angle, angle], -1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)

    return forward


def torch_logits(directory: Path, tokens: np.ndarray, dtype: Any) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()
    if dtype == torch.float64:
        exact_angles(model)
    with torch.no_grad():
        return model(torch.tensor(tokens[None]), use_cache=False).logits[0].double().numpy()


def own_logits(directory: Path, tokens: np.ndarray) -> np.ndarray:
    config = read_directory_config(directory)
    params = load_parameters(directory, config, jnp.float32)
    graph, _ = abstract_decoder(config, jnp.dtype(jnp.float32))

    @jax.jit
    def logits(params: Any, tokens: jax.Array) -> jax.Array:
        decoder = nnx.merge(graph, params)
        length = len(tokens)
        return decoder.logits(decoder.encode(tokens, jnp.arange(length), jnp.tri(length, dtype=bool))[0])

    return np.asarray(logits(params, jnp.asarray(tokens)), np.float64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--exact", type=Path, help="keep the float64 logits here")
    arguments = parser.parse_args()
    size = json.loads((arguments.directory / "config.json").read_text())["vocab_size"]
    if arguments.tokens is None:
        tokens = np.random.default_rng(0).integers(size, size=arguments.length)
    else:
        tokens = np.array(json.loads(arguments.tokens.read_text()))[: arguments.length]
    kept = arguments.exact
    if kept is not None and kept.exists():
        exact, theirs = np.load(kept)["exact"], np.load(kept)["theirs"]
    else:
        exact = torch_logits(arguments.directory, tokens, torch.float64)
        theirs = torch_logits(arguments.directory, tokens, torch.float32)
        if kept is not None:
            np.savez(kept, exact=exact.astype(np.float64), theirs=theirs.astype(np.float32))
    ours = own_logits(arguments.directory, tokens)
    print(f"largest logit {np.abs(exact).max():.1f}")
    print("| positions | this decoder: largest | mean | PyTorch: largest | mean |\n|---|---|---|---|---|")
    for first, last in ROWS:
        if first >= len(tokens):
            break
        rows = slice(first, min(last, len(tokens)))
        found = [np.abs(x[rows] - exact[rows]) for x in (ours, theirs)]
        figures = " | ".join(f"{x.max():.1e} | {x.mean():.1e}" for x in found)
        print(f"| {first}-{rows.stop - 1} | {figures} |")


if __name__ == "__main__":
    main()
