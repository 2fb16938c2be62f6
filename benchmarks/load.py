"""Loading a checkpoint: seconds and peak memory, beside transformers with PyTorch, each in a new process.

    python benchmarks/load.py

writes a random Llama-shaped checkpoint of 1.1 GB (float32, in shards) to a temporary directory, and
``results/load.json`` and ``results/load.md``. Needs PyTorch (extra: oracle).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measured import provenance

RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
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
print(time.perf_counter() - started, time.process_time() - worked, before, of_process("VmHWM"), total)
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
    "load_lm, int8": (
        "import jax, sdscm_jax as sd; jax.numpy.zeros(1).block_until_ready()",
        "lm = sd.load_lm(sys.argv[1], weights='int8'); jax.block_until_ready(lm.params)\n"
        "total = sum(x.nbytes for x in jax.tree.leaves(lm.params))",
    ),
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
    seconds, worked, before, peak, total = map(float, ran.stdout.split())
    return {
        "seconds": seconds,
        "cpu_seconds": worked,
        "over_resident": peak - before - total,
        "peak": peak,
        "parameters": total,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        size = write_checkpoint(Path(place))
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in LOADERS}
        for _ in range(ROUNDS):
            for name in LOADERS:
                runs[name].append(loaded(name, Path(place)))
    report: dict[str, Any] = {"provenance": provenance(), "bytes": size, "runs": runs, "load": os.getloadavg()[1]}
    (RESULTS / "load.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "load.md").write_text(page(report))


def page(report: dict[str, Any]) -> str:
    """The results as Markdown."""
    made = report["provenance"]
    lines = [
        f"# Loading a checkpoint of {report['bytes'] / 1e9:.2f} GB\n",
        f"`{made['command']}`, {made['cores']} CPU cores, {made['date']}; {ROUNDS} rounds, a new process each, "
        f"while the machine had a load average of {report['load']:.0f} (with more than its cores, CPU seconds tell "
        "more). "
        "Peak memory is the kernel's (resident pages, those of mapped files too); *over the parameters* is what the "
        "peak exceeds the memory before loading and the parameters by (parameters that are a mapped file count when "
        "they are read).\n",
        "| | seconds (least) | CPU seconds | parameters, MB | over the parameters, MB | peak of the process, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in report["runs"].items():
        best = {key: min(run[key] for run in runs) for key in runs[0]}
        lines.append(
            f"| {name} | {best['seconds']:.1f} | {best['cpu_seconds']:.1f} | {best['parameters'] / 1e6:.0f} | "
            f"{best['over_resident'] / 1e6:.0f} | {best['peak'] / 1e6:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
