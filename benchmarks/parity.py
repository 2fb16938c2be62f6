"""How far the decoder's logits are from PyTorch's, for every family and every way to compute them.

    python benchmarks/parity.py            # needs the extra "oracle": PyTorch
    python benchmarks/parity.py --seeds 1 --out /tmp/parity.json
    python benchmarks/parity.py --only moe gpt_oss

Models are tiny and random, with every option of the family away from its default; they are written by
transformers and read by ``load_lm``'s loader. The reference is PyTorch in float32, in one pass. A difference is
the largest one of two logits, over the largest logit; of several models, the largest.
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
    families = {
        name: kept[name]
        if options.only and not any(part in name for part in options.only)
        else family_differences(*model, seeds=options.seeds)
        for name, model in MODELS.items()
    }
    report = provenance() | {"seeds": options.seeds, "tokens": LENGTH, "families": families}
    report["versions"] |= {package: version(package) for package in ("torch", "transformers")}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(tables(report)))
    return report


def family_differences(model_type: str, settings: dict[str, Any], seeds: int) -> dict[str, dict[str, float]]:
    """dtype -> way -> relative difference; ``"torch"`` is PyTorch in that dtype."""
    import torch

    from tests.models.family_models import WAYS, random_family_model, random_tokens, relative
    from tests.models.make_golden import torch_logits

    found: dict[str, dict[str, float]] = {dtype: dict.fromkeys([*WAYS, "torch"], 0.0) for dtype in DTYPES}
    for seed in range(seeds):
        model, tokens = random_family_model(model_type, settings, seed), random_tokens(seed)
        everything = np.ones_like(tokens)
        expected = torch_logits(model, tokens, everything)
        with tempfile.TemporaryDirectory() as directory:
            model.save_pretrained(directory, max_shard_size="60KB")
            for dtype in DTYPES:
                lm = read(Path(directory), dtype)
                for way, logits in WAYS.items():
                    found[dtype][way] = max(found[dtype][way], relative(logits(lm, tokens), expected))
        other = relative(torch_logits(model.to(torch.bfloat16), tokens, everything), expected)
        found["bfloat16"]["torch"] = max(found["bfloat16"]["torch"], other)
    return found


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


if __name__ == "__main__":
    main()
