"""Units per second of the published per-unit loop (PyTorch) and of ``simulate``, on the same weights.

    python benchmarks/in_graph.py                                     # GPT-2-small size, random weights
    python benchmarks/in_graph.py --lm gpt2-small embedded            # and the embedded model
    python benchmarks/in_graph.py --smoke --out /tmp/in_graph.json    # two small layers: does it run?

The model is one member of the 14-variable oncology family (or of a family in the reference's JSON
format). Four ways of running it are timed, interleaved in rounds, so that their ratios come from one
run: the loop as published; the loop without the logits that it does not read; ``simulate`` with the
same scores (``scoring="reference"``); ``simulate`` with the default scores (``"sequence"``).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("SDSCM_SHARED", HERE.parent.parent / "shared"))
WAYS = ("torch", "torch-frugal", "jax-reference", "jax-sequence")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print a table and write the JSON; the value is what was written."""
    options = parse(argv)
    # Before either library makes its threads: both then use these cores and no others.
    cores = sorted(os.sched_getaffinity(0))[: options.threads]
    os.sched_setaffinity(0, cores)
    import jax
    import torch

    torch.set_num_threads(len(cores))
    with tempfile.TemporaryDirectory() as scratch:
        # The first compilation of a program is timed; later ones come from here.
        jax.config.update("jax_compilation_cache_dir", f"{scratch}/compiled")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        report = {
            "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
            "machine": describe_machine(cores, torch.get_num_threads()),
            "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
            "results": [measure(name, options, Path(scratch)) for name in options.lm],
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"wrote {options.out}")
    return report


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", nargs="+", default=["gpt2-small"], help="gpt2-small, embedded, or a directory")
    parser.add_argument("--family", type=Path, help="a family in the reference's JSON format; default: oncology")
    parser.add_argument("--member", type=int, default=0, help="seed of the wording")
    parser.add_argument("--units-torch", type=int, default=4, help="units per round of each loop")
    parser.add_argument("--units-jax", type=int, default=64, help="units per round of each simulation")
    parser.add_argument("--chunk", type=int, default=16, help="units that go through the model together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores to use")
    parser.add_argument("--smoke", action="store_true", help="gpt2-small has two small layers")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "in_graph.json")
    options = parser.parse_args(argv)
    if options.units_jax % options.chunk or options.units_jax < 2 * options.chunk:
        parser.error("--units-jax is a multiple of --chunk, and at least twice as much")
    return options


def measure(name: str, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """All four ways on one language model."""
    import jax
    import torch
    from measured import recorded_tokens
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import sdscm_jax as sd

    loop = load_reference()
    directory = locate(name, options.smoke, scratch)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    lm = sd.load_lm(directory)
    members = {scoring: make_family(options).member(options.member, scoring) for scoring in ("reference", "sequence")}
    parameters = sum(x.size for x in jax.tree.leaves(lm.params))
    print(f"{name}: {parameters:,} parameters, {options.threads} threads")

    def run_torch(count: Any, seed: int, frugal: bool, n: int) -> float:
        started = time.perf_counter()
        for _ in loop.run_units(model, tokenizer, members["reference"], n, seed, count=count, last_logits_only=frugal):
            pass
        return time.perf_counter() - started

    def run_jax(scoring: str, n: int, key: int) -> sd.Simulation:
        return sd.simulate(members[scoring], key, n, lm, execution="in_graph", chunk=options.chunk, progress=False)

    # Warm up; for JAX this is the compilation.
    rows: dict[str, dict[str, Any]] = {way: {"rounds": []} for way in WAYS}
    for frugal in (False, True):
        run_torch(None, 0, frugal, 1)
    for scoring in members:
        way = rows[f"jax-{scoring}"]
        with recorded_tokens() as lengths:
            first = run_jax(scoring, options.chunk, 0)
        way["compile_seconds"] = first.stats["compile_seconds"]
        way["tokens_per_unit"], way["forwards_per_unit"] = sum(lengths), len(lengths)
        # CPU time that a call spends on anything but its second and later chunks.
        way["overhead_cpu"] = cpu_seconds(partial(run_jax, scoring, options.chunk, 0))[1]
        if scoring == "reference":
            agreement = largest_difference(loop, model, tokenizer, members[scoring], first)

    for i in range(options.rounds):
        for frugal in (False, True):
            way, count = rows["torch-frugal" if frugal else "torch"], loop.Count()
            seconds, cpu = cpu_seconds(partial(run_torch, count, 1 + i, frugal, options.units_torch))
            way["tokens_per_unit"] = count.tokens / options.units_torch
            way["forwards_per_unit"] = count.forwards / options.units_torch
            way["rounds"].append({"units": options.units_torch, "seconds": seconds, "cpu_seconds": cpu})
        for scoring in members:
            way = rows[f"jax-{scoring}"]
            data, cpu = cpu_seconds(partial(run_jax, scoring, options.units_jax, 1 + i))
            cpu = (cpu - way["overhead_cpu"]) * options.units_jax / (options.units_jax - options.chunk)
            way["rounds"].append({"units": options.units_jax, "seconds": data.stats["seconds"], "cpu_seconds": cpu})

    for way in rows.values():
        way["units_per_second"] = statistics.median(r["units"] / r["seconds"] for r in way["rounds"])
        way["cpu_seconds_per_unit"] = statistics.median(r["cpu_seconds"] / r["units"] for r in way["rounds"])
    for way in rows.values():
        # Of the same round, so that a change in the machine's load falls on both.
        for base in ("torch", "torch-frugal"):
            pairs = zip(way["rounds"], rows[base]["rounds"], strict=True)
            way[f"speed_over_{base}"] = statistics.median(
                (a["units"] / a["seconds"]) / (b["units"] / b["seconds"]) for a, b in pairs
            )
    print_table(rows)
    print(f"largest difference of a log-probability from the loop's: {agreement:.1e}\n")
    return {
        "lm": name,
        "parameters": parameters,
        "dtype": str(lm.dtype),
        "variables": len(members["reference"].family.variables),
        "largest_log_prob_difference": agreement,
        "ways": rows,
    }


def load_reference() -> ModuleType:
    """reference_torch.py, which stands beside this file and not in a package."""
    spec = importlib.util.spec_from_file_location("reference_torch", HERE / "reference_torch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make_family(options: argparse.Namespace) -> Any:
    from sdscm_jax.families import Family
    from sdscm_jax.vignettes import oncology

    return Family.from_reference_json(options.family) if options.family else Family.from_vignette(oncology)


def locate(name: str, smoke: bool, scratch: Path) -> Path:
    """A directory that both libraries load; the random GPT-2 is written into ``scratch``."""
    from sdscm_jax.models.language_model import EMBEDDED

    if name == "embedded":
        return EMBEDDED
    if name != "gpt2-small":
        return Path(name)
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    directory = scratch / "gpt2"
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 4} if smoke else {}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(directory)
    AutoTokenizer.from_pretrained(SHARED / "lms" / "tokenizer-gpt2").save_pretrained(directory)
    return directory


def cpu_seconds(run: Any) -> tuple[Any, float]:
    """Result of ``run()``, and the CPU time of all threads of this process meanwhile."""
    started = time.process_time()
    result = run()
    return result, time.process_time() - started


def largest_difference(loop: ModuleType, model: Any, tokenizer: Any, member: Any, data: Any) -> float:
    """Of a simulated unit's log-probabilities from the loop's, over all sites: same algorithm?"""
    import torch

    drawn = {name: int(values[0, 0]) for name, values in data.values.items()}
    unit = loop.run_unit(model, tokenizer, member, fixed=drawn)
    return max(
        float((torch.tensor(scores).log_softmax(-1) - torch.tensor(data.log_probs[name][0, 0])).abs().max())
        for name, scores in unit.scores.items()
    )


def describe_machine(cores: list[int], torch_threads: int) -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    packages = ("sdscm-jax", "jax", "jaxlib", "flax", "numpyro", "torch", "transformers", "numpy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": names[0] if names else platform.processor(),
        "cores_of_machine": os.cpu_count(),
        "cores_used": cores,
        "torch_threads": torch_threads,
        "load_average_at_start": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    head = ("", "units/s", "x loop", "x frugal", "CPU s/unit", "tokens/unit", "calls/unit", "compile s")
    print("{:14} {:>8} {:>7} {:>8} {:>10} {:>11} {:>10} {:>9}".format(*head))
    for name, row in rows.items():
        compiled = f"{row['compile_seconds']:.1f}" if "compile_seconds" in row else ""
        print(
            f"{name:14} {row['units_per_second']:8.3g} {row['speed_over_torch']:7.2f} "
            f"{row['speed_over_torch-frugal']:8.2f} {row['cpu_seconds_per_unit']:10.3g} "
            f"{row['tokens_per_unit']:11.0f} {row['forwards_per_unit']:10.0f} {compiled:>9}"
        )


if __name__ == "__main__":
    main()
