"""On a GPU: a measured peak, GPT-2 small beside PyTorch, and Llama-3-8B-shaped weights, all random.

    python benchmarks/gpu.py --tokenizer DIR --out results/gpu.json
    python benchmarks/gpu.py --tokenizer DIR --small --out /tmp/gpu.json     # does it run, on any device?

DIR holds GPT-2's tokenizer. Each part is a process of its own, so that PyTorch and JAX do not share the device's
memory longer than they must. The program is the 14-site oncology model. Useful FLOPs are those of the distinct
tokens: two for each weight of the layers, and two for each weight of the head where a distribution is read.
Padding, attention and everything else are not counted as useful.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
PARTS = ("peak", "agreement", "gpt2", "llama", "int8")
GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
LLAMA = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
    "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip
SMALL_GPT2 = GPT2 | {"n_embd": 64, "n_layer": 2, "n_head": 2}
SMALL_LLAMA = LLAMA | {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 50257,
}  # fmt: skip
# Kernels that are matrix products, by what their names contain.
PRODUCTS = ("gemm", "nvjet", "cutlass", "xmma", "dot", "cublas")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--units", type=int, default=1000, help="of the 8B model, in three worlds")
    parser.add_argument("--units-gpt2", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--units-loop", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    parser.add_argument("--scratch", type=Path, help="of a part that is a process of its own")
    options = parser.parse_args(argv)
    if options.scratch is not None:
        print(json.dumps(globals()[options.parts[0]](options)))
        return
    from measured import provenance

    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for part in options.parts:
            started = time.perf_counter()
            argument = [
                *(["--tokenizer", str(options.tokenizer)]), *(["--small"] if options.small else []),
                "--units", str(options.units), "--units-gpt2", *map(str, options.units_gpt2),
                "--units-loop", str(options.units_loop), "--parts", part, "--scratch", scratch,
            ]  # fmt: skip
            memory = ".5" if part == "gpt2" else ".9"
            environment = os.environ | {
                "XLA_PYTHON_CLIENT_MEM_FRACTION": memory,
                "JAX_COMPILATION_CACHE_DIR": f"{scratch}/compiled",
            }
            ran = subprocess.run(
                [sys.executable, __file__, *argument], env=environment, stdout=subprocess.PIPE, text=True, check=False
            )
            lines = ran.stdout.strip().splitlines()
            report[part] = json.loads(lines[-1]) if ran.returncode == 0 else {"failed": ran.returncode}
            report[part]["part_seconds"] = time.perf_counter() - started
            print(part, json.dumps(report[part], indent=1), flush=True)
            options.out.write_text(json.dumps({**provenance(), **report}, indent=1) + "\n")


def peak(options: argparse.Namespace) -> dict[str, Any]:
    """FLOP/s of a bfloat16 product of square matrices."""
    import jax
    import jax.numpy as jnp

    size = 512 if options.small else 8192
    a, b = (jax.random.normal(jax.random.key(i), (size, size), jnp.bfloat16) for i in (0, 1))
    product = jax.jit(lambda a, b: a @ b)
    product(a, b).block_until_ready()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        results = [product(a, b) for _ in range(20)]
        jax.block_until_ready(results[-1])
        seconds.append((time.perf_counter() - started) / 20)
    device = jax.devices()[0]
    return {"device": device.device_kind, "size": size, "flops_per_second": 2 * size**3 / statistics.median(seconds)}


def agreement(options: argparse.Namespace) -> dict[str, Any]:
    """The embedded model's units and scores here and on the host's processor."""
    import jax
    import numpy as np
    from models import oncology

    import sdscm_jax as sd

    found = []
    for device in (jax.devices()[0], jax.devices("cpu")[0]):
        with jax.default_device(device):
            member, worlds = oncology()
            lm = jax.device_put(sd.load_lm(), device)
            found.append(sd.simulate(member, 0, 60 if options.small else 500, lm, worlds=worlds, progress=False))
    here, there = found
    same = [np.mean(here.values[name] == there.values[name]) for name in here.values]
    error = max(float(np.abs(here.log_probs[n] - there.log_probs[n]).max()) for n in here.log_probs)
    return {"values_alike": float(np.mean(same)), "largest_difference_of_log_probabilities": error}


def gpt2(options: argparse.Namespace) -> dict[str, Any]:
    """The published loop and a batched PyTorch, and ``simulate``, in bfloat16."""
    import jax.numpy as jnp
    import torch
    from models import oncology
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    import sdscm_jax as sd

    directory = options.scratch / "gpt2"
    settings = dict(SMALL_GPT2 if options.small else GPT2)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))
    model.save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    tokenizer.save_pretrained(directory)
    import batched_torch
    import reference_torch

    member, published = oncology()[0], oncology("reference")[0]
    found: dict[str, Any] = {}
    where = "cuda" if torch.cuda.is_available() else "cpu"

    def synchronised() -> float:
        if where == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    torch.set_default_device(where)
    model = model.to(where, torch.bfloat16).eval()
    generator = torch.Generator(where)
    count = reference_torch.Count()
    reference_torch.run_unit(model, tokenizer, published, generator)
    started = synchronised()
    for _ in range(options.units_loop):
        reference_torch.run_unit(model, tokenizer, published, generator, count=count)
    loop = (synchronised() - started) / options.units_loop
    found["loop"] = {"seconds_per_unit": loop, "tokens_per_unit": count.tokens / options.units_loop}
    codec = sd.load_lm(directory).codec
    for units in (256,):
        try:
            batched_torch.run_batch(model, codec, member, units, generator)
            count = reference_torch.Count()
            started = synchronised()
            batched_torch.run_batch(model, codec, member, units, generator, count=count)
            batched = (synchronised() - started) / units
            found["batched"] = {"units": units, "seconds_per_unit": batched, "tokens_per_unit": count.tokens / units}
        except Exception as error:  # it was written for processors
            found["batched"] = {"failed": f"{type(error).__name__}: {error}"[:300]}
    del model
    if where == "cuda":
        torch.cuda.empty_cache()
    lm = sd.load_lm(directory, dtype=jnp.bfloat16)
    for units in options.units_gpt2:
        row = timed(member, lm, units, None)
        row["times_the_loop"] = loop / row["seconds_per_unit"]
        found[f"staged, {units} units"] = row
    units = 64 if options.small else 256
    sd.simulate(member, 0, units, lm, execution="in_graph", chunk=units, progress=False)
    started = time.perf_counter()
    stats = sd.simulate(member, 1, 4 * units, lm, execution="in_graph", chunk=units, progress=False).stats
    each = (time.perf_counter() - started) / (4 * units)
    found["in graph"] = {
        "seconds_per_unit": each, "times_the_loop": loop / each, "tokens_per_unit": stats["tokens"] / (4 * units)
    }  # fmt: skip
    found["profile"] = profiled(member, lm, options.units_gpt2[0], None)
    return found


def timed(member: Any, lm: Any, units: int, worlds: Any) -> dict[str, Any]:
    """``simulate`` of new units, once all shapes are compiled."""
    import sdscm_jax as sd

    first = sd.simulate(member, 0, units, lm, worlds=worlds, progress=False).stats
    started = time.perf_counter()
    stats = sd.simulate(member, 1, units, lm, worlds=worlds, progress=False).stats
    seconds = time.perf_counter() - started
    return {
        "units": units,
        "worlds": 1 + len(worlds or ()),
        "seconds_per_unit": seconds / units,
        "units_per_second": units / seconds,
        "seconds": seconds,
        "compile_seconds": [first["compile_seconds"], stats["compile_seconds"]],
        "tokens_per_unit": stats["tokens"] / units,
        "tokens_per_second": stats["tokens"] / seconds,
        "positions_per_token": stats["positions"] / stats["tokens"],
        "calls": stats["calls"],
        "useful_flops_per_second": useful_flops(lm, stats) / seconds,
    }


def layer_weights(lm: Any) -> int:
    """Weights of the layers' matrices."""
    import jax

    named = jax.tree_util.tree_leaves_with_path(lm.params)
    return sum(x.size for path, x in named if any("blocks" in str(key) for key in path) and x.ndim > 2)


def useful_flops(lm: Any, stats: Any) -> float:
    """Of the distinct tokens of a run; see above."""
    return 2 * (layer_weights(lm) * stats["tokens"] + lm.config.vocab_size * lm.config.width * stats["reads"])


def prefill(lm: Any, options: argparse.Namespace) -> dict[str, float]:
    """16 texts of 512 tokens in one call of the decoder, without a cache."""
    import jax
    import jax.numpy as jnp

    rows, length = (2, 16) if options.small else (16, 512)
    tokens = jax.random.randint(jax.random.key(0), (rows, length), 0, 50000)
    mask = jnp.broadcast_to(jnp.tri(length, dtype=bool), (rows, length, length))
    encode = jax.jit(lambda lm, tokens: lm.decoder.encode(tokens, jnp.arange(length) + 0 * tokens, mask))
    jax.block_until_ready(encode(lm, tokens))
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(encode(lm, tokens))
        seconds.append(time.perf_counter() - started)
    return {
        "tokens": rows * length,
        "seconds": statistics.median(seconds),
        "useful_flops_per_second": 2 * layer_weights(lm) * rows * length / statistics.median(seconds),
    }


def profiled(member: Any, lm: Any, units: int, worlds: Any) -> dict[str, Any]:
    """Device time by kind of kernel, of one run."""
    import jax

    import sdscm_jax as sd

    def run() -> Any:
        return sd.simulate(member, 7, units, lm, worlds=worlds, progress=False).stats

    run()
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        with jax.profiler.trace(place):
            stats = run()
        seconds = time.perf_counter() - started
        files = list(Path(place).rglob("*.xplane.pb"))
        spent: collections.Counter[str] = collections.Counter()
        for plane in jax.profiler.ProfileData.from_file(str(files[0])).planes:
            if "/device:GPU" in plane.name:
                for line in plane.lines:
                    if line.name.startswith("Stream"):
                        for event in line.events:
                            spent[event.name] += event.duration_ns
    total = sum(spent.values()) / 1e9
    products = sum(t for name, t in spent.items() if any(p in name.lower() for p in PRODUCTS)) / 1e9
    return {
        "wall_seconds": seconds,
        "device_seconds": total,
        "useful_flops_per_device_second": useful_flops(lm, stats) / total if total else None,
        "share_of_products": products / total if total else None,
        "largest": [[name[:70], round(t / 1e6, 2)] for name, t in spent.most_common(25)],
    }


def write_llama(directory: Path, settings: dict[str, Any], tokenizer: Path) -> int:
    """A random checkpoint in shards of about 4 GB, bfloat16; its bytes."""
    import ml_dtypes
    import numpy as np
    from safetensors.numpy import save_file
    from transformers import AutoTokenizer

    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(settings))
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(directory)
    d, f, vocabulary = settings["hidden_size"], settings["intermediate_size"], settings["vocab_size"]
    kv = d // settings["num_attention_heads"] * settings["num_key_value_heads"]
    shapes = {
        "model.embed_tokens.weight": (vocabulary, d),
        "lm_head.weight": (vocabulary, d),
        "model.norm.weight": (d,),
    }
    for i in range(settings["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.{norm}_layernorm.weight": (d,) for norm in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{x}_proj.weight": (n, d) for x, n in (("q", d), ("k", kv), ("v", kv), ("o", d))}
        shapes |= {f"{layer}.mlp.{x}_proj.weight": (f, d) for x in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (d, f)
    rng = np.random.default_rng(0)
    # One long list of random numbers, from which each tensor begins elsewhere.
    numbers = (rng.standard_normal(1 << (20 if d < 4096 else 25), np.float32) * 0.02).astype(ml_dtypes.bfloat16)
    where, shard, size, number = {}, {}, 0, 0

    def flush() -> None:
        nonlocal shard, size, number
        name = f"model-{number:05d}.safetensors"
        save_file(shard, directory / name, metadata={"format": "pt"})
        where.update(dict.fromkeys(shard, name))
        shard, size, number = {}, 0, number + 1

    for name, shape in shapes.items():
        if len(shape) == 1:
            tensor = np.ones(shape, ml_dtypes.bfloat16)
        else:
            tensor = np.resize(np.roll(numbers, int(rng.integers(len(numbers)))), shape)
        shard[name], size = tensor, size + tensor.nbytes
        if size > 4e9:
            flush()
    flush()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def llama(options: argparse.Namespace) -> dict[str, Any]:
    """Load the checkpoint, and run the oncology model on it."""
    started = time.perf_counter()
    size = write_llama(options.scratch / "llama", SMALL_LLAMA if options.small else LLAMA, options.tokenizer)
    return {"checkpoint_bytes": size, "write_seconds": time.perf_counter() - started, **on_llama(options, None)}


def int8(options: argparse.Namespace) -> dict[str, Any]:
    """The same with kernels as 8-bit integers."""
    if not (options.scratch / "llama").is_dir():
        write_llama(options.scratch / "llama", SMALL_LLAMA if options.small else LLAMA, options.tokenizer)
    return on_llama(options, "int8")


def on_llama(options: argparse.Namespace, weights: str | None) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    from models import oncology

    import sdscm_jax as sd

    jnp.zeros(1).block_until_ready()
    before = host_peak()
    started = time.perf_counter()
    lm = sd.load_lm(options.scratch / "llama", dtype=jnp.bfloat16, **({"weights": weights} if weights else {}))
    jax.block_until_ready(lm.params)
    loading = time.perf_counter() - started
    memory = jax.devices()[0].memory_stats() or {}
    found: dict[str, Any] = {
        "parameters": sum(x.size for x in jax.tree.leaves(lm.params)),
        "parameter_bytes": sum(x.nbytes for x in jax.tree.leaves(lm.params)),
        "load_seconds": loading,
        "host_peak_growth_bytes": host_peak() - before,
        "device_bytes_after_loading": memory.get("bytes_in_use"),
        "device_peak_while_loading": memory.get("peak_bytes_in_use"),
    }
    member, worlds = oncology()
    units = 16 if options.small else options.units
    found["run"] = timed(member, lm, units, worlds)
    found["profile"] = profiled(member, lm, units // 2, worlds)
    found["prefill"] = prefill(lm, options)
    found["device_peak"] = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return found


def host_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
