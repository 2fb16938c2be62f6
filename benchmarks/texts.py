"""Free text on Gemma 3 270M: 64 texts of 64 tokens in two worlds, beside ``transformers`` and vLLM, in one run.

    python benchmarks/texts.py --lm gemma.gguf [--units 64] [--tokens 64]    # writes results/texts.{json,md}
    python benchmarks/texts.py --lm gemma.gguf --vllm /tmp/vllm/bin/python   # beside vLLM's CPU build, too

All write from the same prompts on the same weights, float32, on the same machine with all its threads, one after
another; none counts compiling or loading (each has run once before). ``generate`` samples, with keys and values, all
texts in one batch; it has no worlds, so it writes those of each as texts of their own, and so does vLLM, which lives in
an environment of its own (``texts_vllm.py``). Nothing ends a text early. The language model is not in this repository
(Gemma's terms of use); where it or PyTorch is absent there is nothing to measure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measured import provenance

HERE = Path(__file__).parent
RESULTS = HERE / "results"
REFERRALS = ["a persistent cough", "a sudden headache"]
# Whoever sets these slows one contestant and not another: lifted for all, before a library that reads them is loaded.
BOUNDS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")


def spent() -> float:
    """CPU-seconds of this process."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def timed(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a function gives, and what it took."""
    before, started = spent(), time.perf_counter()
    found = run()
    return found, {"cpu_seconds": round(spent() - before, 1), "seconds": round(time.perf_counter() - started, 1)}


def ours(lm: Any, units: int, tokens: int) -> tuple[dict[str, Any], list[str]]:
    """Figures of the staged run, and the prompts that it wrote from."""
    import numpy as np

    import sdscm_jax as sd

    def referral(lm: sd.LanguageModel) -> None:
        reason = sd.sample("reason", sd.Choice(lm, "The patient was referred because of {}.", REFERRALS))
        # A pattern that nothing ends: every text has all its tokens.
        sd.sample("letter", sd.Text(lm, "Dear colleague,{}", given=[reason], max_tokens=tokens, stop=["\x07"]))

    worlds = [{"reason": REFERRALS[1]}]

    def run(key: int) -> Any:
        return sd.simulate(referral, key, units, lm, do={"reason": REFERRALS[0]}, worlds=worlds, progress=False)

    run(1)
    data, took = timed(lambda: run(0))
    stats, letters = data.stats, data.values["letter"]
    apart = (letters[:, 0] != letters[:, 1]).any(-1)
    found = {
        **took,
        "tokens": int(stats["tokens"]),
        "distinct": int(stats["trie_tokens"]),
        "written": int(stats["written"]),
        "distinct_per_written": round(stats["trie_tokens"] / stats["written"], 3),
        "positions": int(stats["positions"]),
        "letters_that_differ": float(apart.mean()),
        "first_difference": float(np.mean((letters[:, 0] != letters[:, 1]).argmax(-1)[apart])) if apart.any() else None,
    }
    return found, [f"The patient was referred because of {reason}. Dear colleague," for reason in REFERRALS]


def theirs(directory: str, prompts: list[str], units: int, tokens: int) -> dict[str, Any]:
    """Figures of ``generate``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    batch = tokenizer([prompt for prompt in prompts for _ in range(units)], return_tensors="pt", padding=True)
    length = {"max_new_tokens": tokens, "min_new_tokens": tokens}

    def run(most: dict[str, int]) -> Any:
        torch.manual_seed(0)
        with torch.inference_mode():
            return model.generate(**batch, **most, do_sample=True, top_k=0, top_p=1.0, temperature=1.0)

    run({"max_new_tokens": 2, "min_new_tokens": 2})
    found, took = timed(lambda: run(length))
    written = (found.shape[1] - batch["input_ids"].shape[1]) * found.shape[0]
    # The last token of each is not read.
    return {**took, "tokens": int(batch["attention_mask"].sum()) + written - found.shape[0], "written": written}


def vllm(python: str, directory: str, prompts: list[str], units: int, tokens: int) -> dict[str, Any]:
    """Figures of vLLM's CPU build, run by the interpreter of another environment; its last line is the answer."""
    asked = json.dumps({"directory": directory, "prompts": prompts, "units": units, "tokens": tokens})
    # None of this environment's paths: it has libraries of its own.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, str(HERE / "texts_vllm.py"), asked], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def page(found: dict[str, Any]) -> str:
    """The figures as a table."""
    a, peers = found["sdscm_jax"], {name: found[name] for name in ("transformers", "vllm") if name in found}
    titles = {"sdscm_jax": "sdscm-jax, staged", "transformers": "transformers, generate", "vllm": "vLLM, CPU build"}
    lines = [
        f"# Free text: the staged engine beside {' and '.join(titles[name] for name in peers)}",
        "",
        f"{found['units']} texts of {found['length']} tokens in two worlds, Gemma 3 270M in float32, one machine with "
        f"{found['provenance']['cores']} cores; {found['provenance']['date'][:10]}, `python benchmarks/texts.py`."
        + (f" {found['note']}" if found.get("note") else ""),
        "",
        "| | tokens computed | tokens written | computed per written | CPU-seconds | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, x in {"sdscm_jax": a, **peers}.items():
        lines.append(
            f"| {titles[name]} | {x['tokens']:,} | {x['written']:,} | {x['tokens'] / x['written']:.2f} | "
            f"{x['cpu_seconds']:,} | {x['seconds']:,} |"
        )
    ratios = ", ".join(f"{titles[name]} {x['cpu_seconds'] / a['cpu_seconds']:.2f}" for name, x in peers.items())
    lines += [
        "",
        f"CPU-seconds, as a multiple of ours: {ratios}. {a['letters_that_differ']:.0%} of the letters differ "
        "between the worlds: all have another prompt, so only beginnings that units share are computed once.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", required=True, help="Gemma 3 270M, or another that load_lm reads")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--vllm", metavar="PYTHON", help="interpreter of an environment with vLLM's CPU build")
    parser.add_argument("--note", help="a sentence for the page: what else the machine did")
    asked = parser.parse_args()
    if not Path(asked.lm).exists() or importlib.util.find_spec("torch") is None:
        print(f"nothing measured: {asked.lm} or PyTorch is absent")
        return
    for name in BOUNDS:
        os.environ.pop(name, None)
    import jax.numpy as jnp

    import sdscm_jax as sd

    lm = sd.load_lm(asked.lm, dtype=jnp.float32)
    mine, prompts = ours(lm, asked.units, asked.tokens)
    print(json.dumps(mine, indent=1), flush=True)
    found = {
        "provenance": provenance(),
        "note": asked.note,
        "units": asked.units,
        "length": asked.tokens,
        "sdscm_jax": mine,
    }
    with tempfile.TemporaryDirectory() as directory:
        lm.save(directory)
        found["transformers"] = theirs(directory, prompts, asked.units, asked.tokens)
        # Kept before vLLM is tried: its failure costs nobody else's figures.
        write(found)
        if asked.vllm:
            found["vllm"] = vllm(asked.vllm, directory, prompts, asked.units, asked.tokens)
            write(found)


def write(found: dict[str, Any]) -> None:
    """Keep the figures, and show them."""
    (RESULTS / "texts.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "texts.md").write_text(page(found))
    print(page(found), flush=True)


if __name__ == "__main__":
    main()
