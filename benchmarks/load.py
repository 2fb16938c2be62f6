"""Loading a checkpoint: seconds and peak memory, beside transformers with PyTorch, each in a new process.

    python benchmarks/load.py --gemma gemma.gguf

writes a random Llama-shaped checkpoint of 1.1 GB (float32, in shards) to a temporary directory, and one of Gemma 3
270M, where its GGUF file is given, which is read itself, too; then ``results/load.json`` and ``results/load.md``. Needs
PyTorch (extra: oracle).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measured import provenance

RESULTS = Path(__file__).parent / "results"
ROUNDS = 2
# What a process does before and while it loads. Peak memory is the kernel's, of the whole process.
CHILD = """
import sys, time
def of_process(what):
    line = next(line for line in open("/proc/self/status") if line.startswith(what))
    return int(line.split()[1]) * 1024
{imports}
before = of_process("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
started, worked = time.perf_counter(), time.process_time()
{load}
passed, worked = time.perf_counter() - started, time.process_time() - worked
print(passed, worked, before, of_process("VmRSS"), of_process("VmHWM"), total)
"""
LOADERS = {
    "load_lm, float32": (
        "import jax, sdscm_jax as sd; jax.numpy.zeros(1).block_until_ready()",
        "lm = sd.load_lm(sys.argv[1]); jax.block_until_ready(lm.params)\n"
        "total = sum(x.nbytes for x in jax.tree.leaves(lm.params))",
    ),
    "load_lm, bfloat16": (
        "import jax, jax.numpy as jnp, sdscm_jax as sd; jnp.zeros(1).block_until_ready()",
        "lm = sd.load_lm(sys.argv[1], dtype=jnp.bfloat16); jax.block_until_ready(lm.params)\n"
        "total = sum(x.nbytes for x in jax.tree.leaves(lm.params))",
    ),
    **{
        f"load_lm, {weights}": (
            "import jax, sdscm_jax as sd; jax.numpy.zeros(1).block_until_ready()",
            f"lm = sd.load_lm(sys.argv[1], weights={weights!r}); jax.block_until_ready(lm.params)\n"
            "total = sum(x.nbytes for x in jax.tree.leaves(lm.params))",
        )
        for weights in ("int8", "int4")
    },
    "transformers + torch, float32": (
        "import torch\nfrom transformers import AutoModelForCausalLM, AutoTokenizer",
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        # As a mapped file it is not there before it is read.
        "total = sum(x.nbytes for x in model.parameters()); sum(float(x.sum()) for x in model.parameters())",
    ),
    "transformers + torch, bfloat16": (
        "import torch\nfrom transformers import AutoModelForCausalLM, AutoTokenizer",
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "total = sum(x.nbytes for x in model.parameters()); sum(float(x.sum()) for x in model.parameters())",
    ),
}


def write_checkpoint(directory: Path) -> int:
    """A random Llama of 278 million parameters with the embedded model's tokenizer; its bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import sdscm_jax as sd

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=18, num_attention_heads=16,
        num_key_value_heads=8, max_position_embeddings=2048, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory, max_shard_size="300MB")
    sd.load_lm().tokenizer.save_pretrained(directory)
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def loaded(name: str, directory: Path) -> dict[str, float]:
    imports, load = LOADERS[name]
    child = CHILD.format(imports=imports, load=load)
    ran = subprocess.run([sys.executable, "-c", child, directory], check=True, capture_output=True, text=True)
    seconds, worked, before, after, peak, total = map(float, ran.stdout.split())
    return {
        "seconds": seconds,
        "cpu_seconds": worked,
        "over_parameters": peak - before - total,
        "over_resident": peak - after,
        "peak": peak,
        "parameters": total,
    }


def measured(name: str, place: Path, gguf: Path | None = None) -> dict[str, Any]:
    """The runs of all loaders over a directory, and of one over a GGUF file."""
    from safetensors import safe_open

    sizes = []
    for path in place.glob("*.safetensors"):
        with safe_open(path, "np") as file:
            sizes += [4 * math.prod(file.get_slice(tensor).get_shape()) for tensor in set(file.keys())]
    runs: dict[str, list[dict[str, float]]] = {loader: [] for loader in LOADERS}
    of_gguf: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        for loader in LOADERS:
            runs[loader].append(loaded(loader, place))
        if gguf is not None:
            of_gguf.append(loaded("load_lm, float32", gguf))
    if of_gguf:
        runs["load_lm of the GGUF file, float32"] = of_gguf
    return {"name": name, "bytes": sum(sizes), "largest": max(sizes), "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gemma", type=Path, help="the GGUF file of Gemma 3 270M")
    gemma = parser.parse_args().gemma
    found = []
    with tempfile.TemporaryDirectory() as place:
        write_checkpoint(Path(place))
        found.append(measured("random Llama, 278M", Path(place)))
    if gemma is not None:
        with tempfile.TemporaryDirectory() as place:
            save = "import sys, sdscm_jax as sd; sd.load_lm(sys.argv[1]).save(sys.argv[2])"
            subprocess.run([sys.executable, "-c", save, gemma, place], check=True)
            found.append(measured("Gemma 3 270M", Path(place), gemma))
    report: dict[str, Any] = {"provenance": provenance(), "checkpoints": found, "load": os.getloadavg()[1]}
    (RESULTS / "load.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "load.md").write_text(page(report))


def page(report: dict[str, Any]) -> str:
    """The results as Markdown."""
    made = report["provenance"]
    lines = [
        "# Loading a checkpoint\n",
        f"`{made['command']}`, {made['cores']} CPU cores, {made['date']}; {ROUNDS} rounds, a new process each, "
        f"while the machine had a load average of {report['load']:.0f} (with more than its cores, CPU seconds tell "
        "more). "
        "Peak memory is the kernel's (resident pages, those of mapped files too). *Over the resident* is what the peak "
        "exceeds the memory after loading by: what loading itself takes for a while. *Over the parameters* is what it "
        "exceeds the memory before loading and the parameters by, libraries that are imported meanwhile and compiled "
        "programs included (parameters that are a mapped file count when they are read).\n",
        "| checkpoint (bytes; largest tensor), MB | | seconds (least) | CPU seconds | parameters, MB | "
        "over the resident, MB | over the parameters, MB | peak of the process, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for checkpoint in report["checkpoints"]:
        what = f"{checkpoint['name']} ({checkpoint['bytes'] / 1e6:.0f}; {checkpoint['largest'] / 1e6:.0f})"
        for name, runs in checkpoint["runs"].items():
            best = {key: min(run[key] for run in runs) for key in runs[0]}
            lines.append(
                f"| {what} | {name} | {best['seconds']:.1f} | {best['cpu_seconds']:.1f} | "
                f"{best['parameters'] / 1e6:.0f} | {best['over_resident'] / 1e6:.0f} | "
                f"{best['over_parameters'] / 1e6:.0f} | {best['peak'] / 1e6:.0f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
