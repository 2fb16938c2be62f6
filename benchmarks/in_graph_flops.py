"""FLOPs of a unit in one jitted program, against those of the distinct tokens that it needs.

    python benchmarks/in_graph_flops.py
    python benchmarks/in_graph_flops.py --width 64 --units 2 --out /tmp/f.json      # does it run?

The program is one member of the 14-variable oncology family, each variable given all earlier ones;
the worlds are the factual one alone, and with it the two in which the treatment is set. XLA's cost
analysis of the compiled program is what is measured. It counts the body of a loop once, so that the
decoder has one layer, whose loop XLA inlines (checked: no loop holds a matrix product); its weights
are random, which costs nothing and changes nothing.

The bound is worked out from token lists, with the tokenizer and the values that were drawn alone:

- *nodes* of the trie: the distinct proper prefixes of the whole texts "context, and the template with
  one of its options", of all sites, options and worlds of a unit. Each must go through the layer once:
  the matrix products of a token (query, key, value, out, gate, up, down), and for each of the tokens
  that it can see (its depth in the trie) a product with a key and one with a value.
- *rows*: those of the nodes whose next-token distribution is read, i.e. after which an option's text goes on
  (from where the options' tokens part). Each costs a product with the head.

Nothing else is counted: no norms, no softmax, no masks, no normalisation over the vocabulary.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print the table and write the JSON; the value is what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=256, help="of the decoder, a multiple of 64")
    parser.add_argument("--units", type=int, default=20, help="units whose tries are averaged")
    parser.add_argument("--seed", type=int, default=0, help="of the wording and the units")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "in_graph_flops.json")
    options = parser.parse_args(argv)
    from measured import provenance

    started = time.perf_counter()
    report = {**provenance(), "width": options.width, "units": options.units, "seed": options.seed, **measure(options)}
    report["seconds"] = round(time.perf_counter() - started)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{'worlds':34}{'nodes':>8}{'rows':>8}{'bound':>12}{'XLA':>12}{'ratio':>8}")
    for name, row in report["worlds"].items():
        print(
            f"{name:34}{row['nodes']:8.1f}{row['rows']:8.1f}{row['bound_flops'] / 1e6:10.1f} M"
            f"{row['flops'] / 1e6:10.1f} M{row['ratio']:8.3f}"
        )
    return report


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Cost and bound for one world and for three, and for three with the factual one run beside the others."""
    from dataclasses import replace

    import jax

    from sdscm_jax.dsl.analysis.structure import structure
    from sdscm_jax.dsl.worlds.run_worlds import run_worlds
    from sdscm_jax.dsl.worlds.worlds import Worlds, as_worlds
    from sdscm_jax.families import Family
    from sdscm_jax.vignettes import oncology

    lm = one_layer(options.width)
    member = Family.from_vignette(oncology).member(options.seed)
    treatment = oncology.treatment
    levels = [{treatment: level} for level in oncology[treatment].options]
    sites = structure(member, (lm,))

    def program(worlds: Worlds) -> Any:
        # The outcome's phrase is among the values.
        return lambda lm, key: run_worlds(lambda lm: member(lm) and None, key, worlds, (lm,))

    def flops(worlds: Worlds) -> float:
        compiled = jax.jit(program(worlds)).lower(lm, jax.random.key(0)).compile()
        check_no_product_in_a_loop(compiled.as_text())
        return compiled.cost_analysis()["flops"]

    one, three = as_worlds([], sites), as_worlds(levels, sites)
    keys = jax.random.split(jax.random.key(options.seed), options.units)
    drawn = jax.jit(jax.vmap(program(three), in_axes=(None, 0)))(lm, keys).values
    units = [
        [{name: int(values[unit, world]) for name, values in drawn.items()} for world in range(3)]
        for unit in range(options.units)
    ]
    costs = {
        "factual": (one, 1),
        "factual and both treatments": (three, 3),
        "the same, each world run": (replace(three, grid=None), 3),
    }
    per_token, per_pair, per_row = costs_of_a_token(lm.config)
    rows = {}
    for name, (worlds, count) in costs.items():
        tries = [trie(member, lm.tokenizer, unit[:count]) for unit in units]
        nodes, depths, read = np.mean([[len(n), sum(map(len, n)), len(r)] for n, r in tries], axis=0)
        bound = nodes * per_token + depths * per_pair + read * per_row
        found = flops(worlds)
        rows[name] = {
            "nodes": nodes,
            "mean_depth": depths / nodes,
            "rows": read,
            "bound_flops": bound,
            "flops": found,
            "ratio": found / bound,
        }
    return {
        "vocabulary": lm.config.vocab_size,
        "flops_per_token": per_token,
        "flops_per_token_and_visible_token": per_pair,
        "flops_per_row": per_row,
        "worlds": rows,
    }


def one_layer(width: int) -> Any:
    """A random Llama of one layer, with the embedded model's tokenizer."""
    import sdscm_jax as sd
    from sdscm_jax.models.config import Rope
    from sdscm_jax.models.families import tiny_config
    from sdscm_jax.models.language_model import random_lm

    embedded = sd.load_lm()
    sizes = {"width": width, "head_dim": 64, "heads": width // 64, "kv_heads": width // 64, "mlp_width": 3 * width}
    config = tiny_config(
        "llama", embedded.config.vocab_size, layers=1, max_positions=512, rope=(Rope(10_000.0, 64),), **sizes
    )
    return random_lm(config, embedded.tokenizer)


def costs_of_a_token(config: Any) -> tuple[int, int, int]:
    """FLOPs of the matrix products: of a token, of a token with one that it sees, and of a row of the head."""
    c = config
    weights = 2 * c.width * (c.heads + c.kv_heads) * c.head_dim + (3 if c.gated else 2) * c.width * c.mlp_width
    return 2 * c.layers * weights, 4 * c.layers * c.heads * c.head_dim, 2 * c.width * c.vocab_size


def trie(member: Any, tokenizer: Any, worlds: list[dict[str, int]]) -> tuple[set, set]:
    """Nodes that the worlds of a unit need, and those whose next-token distribution is read."""
    nodes: set[tuple[int, ...]] = set()
    read: set[tuple[int, ...]] = set()
    for values in worlds:
        before = ""
        for variable, wording in zip(member.family.variables, member.wordings, strict=True):
            template = variable.templates[wording]
            texts = [tuple(tokenizer.encode(before + template.fill(option))) for option in variable.options]
            # Where the options part; each keeps a token that it is scored by.
            part = min(
                *(len(text) - 1 for text in texts), agreement([*texts, tokenizer.encode(before + template.prefix)])
            )
            for text in texts:
                nodes |= {text[:i] for i in range(1, len(text))}
                read |= {text[:i] for i in range(part, len(text))}
            before += template.fill(variable.options[values[variable.name]]) + " "
    return nodes, read


def agreement(texts: list[Any]) -> int:
    """How many tokens all texts begin with alike."""
    length = 0
    while all(len(text) > length for text in texts) and len({text[length] for text in texts}) == 1:
        length += 1
    return length


def check_no_product_in_a_loop(program: str) -> None:
    """Refuse a compiled program (as text) that has a matrix product in a loop, where it is counted once."""
    parts = {
        found["name"]: found["body"]
        for found in re.finditer(r"^(?:ENTRY )?%(?P<name>\S+) \(.*?\{$(?P<body>.*?)^\}", program, re.M | re.S)
    }
    called = {name: set(re.findall(r"%([\w.-]+)", body)) & set(parts) for name, body in parts.items()}
    if not any(" dot(" in body for body in parts.values()):
        raise RuntimeError("no matrix product is found in the compiled program: it is written in another way")
    reached = {body for text in parts.values() for body in re.findall(r"body=%([\w.-]+)", text)}
    while (more := {name for above in reached for name in called[above]} - reached) != set():
        reached |= more
    looped = [name for name in reached if " dot(" in parts[name] or "custom-call(" in parts[name]]
    if looped:
        raise RuntimeError(f"a loop holds a matrix product ({looped[0]}), which XLA's cost analysis counts once")


if __name__ == "__main__":
    main()
