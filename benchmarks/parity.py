"""How far the decoder's logits are from PyTorch's, for every family and every way to compute them.

    python benchmarks/parity.py            # needs the extra "oracle": PyTorch
    python benchmarks/parity.py --seeds 1 --out /tmp/parity.json
    python benchmarks/parity.py --only moe gpt_oss

Models are tiny and random, with every option of the family away from its default; they are written by
transformers and read by ``load_lm``'s loader. The reference is PyTorch in float32, in one pass. A difference is
the largest one of two logits, over the largest logit; of several models, the largest.

Where there are experts, rounding to bfloat16 may send a token to another one. So it is counted how many choices differ
from float32's, and the difference is told of the tokens that none of them can have reached, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
DTYPES = ("float32", "bfloat16")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, write the JSON; the value is what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="models of each family")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "parity.json")
    parser.add_argument("--only", nargs="+", help="measure the families with these in their names; keep the others")
    options = parser.parse_args(argv)
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    from importlib.metadata import version

    from measured import provenance

    from tests.models.family_models import LENGTH, MODELS

    kept = json.loads(options.out.read_text())["families"] if options.only else {}
    chosen = [name for name in MODELS if not options.only or any(part in name for part in options.only)]
    report = provenance() | {"seeds": options.seeds, "tokens": LENGTH}
    report["versions"] |= {package: version(package) for package in ("torch", "transformers")}
    # In the order of the table; what was measured is kept, whatever becomes of the others.
    found = {name: kept[name] for name in MODELS if name in kept}
    for name in chosen:
        found[name] = family_differences(*MODELS[name], seeds=options.seeds)
        report["families"] = {known: found[known] for known in MODELS if known in found}
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join([*tables(report), "", *experts_table(report)]))
    return report


def family_differences(model_type: str, settings: dict[str, Any], seeds: int) -> dict[str, dict[str, float]]:
    """dtype -> way -> relative difference; ``"torch"`` is PyTorch in that dtype.

    Where there are experts, ``"experts"`` -> how many choices were made (of tokens and layers), how many differ in
    bfloat16, and the largest difference of tokens that are unparted.
    """
    import torch

    from tests.models.family_models import WAYS, choices, random_family_model, random_tokens, relative, unparted
    from tests.models.make_golden import torch_logits

    found: dict[str, dict[str, float]] = {dtype: dict.fromkeys([*WAYS, "torch"], 0.0) for dtype in DTYPES}
    experts = {"choices": 0, "differ": 0, "unparted": 0.0}
    for seed in range(seeds):
        model, tokens = random_family_model(model_type, settings, seed), random_tokens(seed)
        # (Its grouped products do not take all tiny sizes.)
        model.set_experts_implementation("eager")
        everything = np.ones_like(tokens)
        expected = torch_logits(model, tokens, everything)
        with tempfile.TemporaryDirectory() as directory:
            model.save_pretrained(directory, max_shard_size="60KB")
            lms = {dtype: read(Path(directory), dtype) for dtype in DTYPES}
            if lms["float32"].config.experts is not None:
                exact, rounded = (choices(lm, tokens) for lm in lms.values())
                experts["choices"] += exact[..., 0].size
                experts["differ"] += int((exact != rounded).any(-1).sum())
                same = unparted(exact, rounded)[..., None]
                logits = np.where(same, WAYS["one pass"](lms["bfloat16"], tokens), expected)
                experts["unparted"] = max(experts["unparted"], relative(logits, expected))
            for dtype, lm in lms.items():
                for way, of in WAYS.items():
                    found[dtype][way] = max(found[dtype][way], relative(of(lm, tokens), expected))
        other = relative(torch_logits(model.to(torch.bfloat16), tokens, everything), expected)
        found["bfloat16"]["torch"] = max(found["bfloat16"]["torch"], other)
    return found | ({"experts": experts} if experts["choices"] else {})


def read(directory: Path, dtype: str) -> Any:
    """The model of a directory, which has no tokenizer."""
    import jax.numpy as jnp

    from sdscm_jax.models.checkpoint import abstract_decoder, load_parameters, read_directory_config
    from sdscm_jax.models.language_model import LanguageModel

    config = read_directory_config(directory)
    params = load_parameters(directory, config, jnp.dtype(dtype))
    return LanguageModel(params, abstract_decoder(config, jnp.dtype(dtype))[0], None)  # type: ignore[arg-type]


def tables(report: dict[str, Any]) -> list[str]:
    """Lines of the table in docs/parity.md."""
    lines = [
        "| family | float32, one pass | chunked | cached | bfloat16, one pass | chunked | cached | PyTorch's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in report["families"].items():
        cells = [found["float32"][way] for way in ("one pass", "chunked", "cached")]
        cells += [found["bfloat16"][way] for way in ("one pass", "chunked", "cached", "torch")]
        lines.append(f"| {name} | " + " | ".join(f"{value:.1e}" for value in cells) + " |")
    return lines


def experts_table(report: dict[str, Any]) -> list[str]:
    """Lines of the table of what rounding does to choices."""
    lines = ["| family | choices that differ in bfloat16 | all | where none has differed |", "|---|---|---|---|"]
    for name, found in report["families"].items():
        if own := found.get("experts"):
            share = f"{own['differ']} of {own['choices']:,}"
            lines.append(f"| {name} | {share} | {found['bfloat16']['one pass']:.1e} | {own['unparted']:.1e} |")
    return lines


if __name__ == "__main__":
    main()
