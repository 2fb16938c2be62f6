"""What does a language model think that PD-L1 does to the choice of a therapy?

    python examples/breast_cancer.py --out pictures

Draws one wording of the 14-variable oncology model, simulates patients in the factual world and in
both PD-L1 worlds, and compares the true effect on each therapy with what the factual data suggest.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax

import sdscm_jax as sd
from sdscm_jax.effects import contrast, plot_contrast
from sdscm_jax.families import Family


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", help="directory or hub id of a language model; default: the embedded one")
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the wording and of the patients")
    parser.add_argument("--out", type=Path, help="directory for a picture")
    options = parser.parse_args(argv)

    lm = sd.load_lm(options.lm)
    model = Family.from_vignette(sd.vignettes.oncology).member(options.seed)
    worlds = [{"PD-L1 level": "low"}, {"PD-L1 level": "high"}]
    data = sd.simulate(model, jax.random.key(options.seed), options.units, lm, worlds=worlds)

    # The first patient, and the same patient had her PD-L1 level been the other one.
    patient = data.to_pandas(logp=False).iloc[0]
    other = "low" if patient["PD-L1 level"] == "high" else "high"
    world = f"do(PD-L1 level={other})"
    print(f"Patient 0:\n  {data.text(0)}\n\nThe same patient under {world}:\n  {data.text(0, world)}\n\nWhat changed:")
    for name in data.values:
        if patient[name] != patient[f"{name}|{world}"]:
            print(f"  {name}: {patient[name]} -> {patient[f'{name}|{world}']}")

    effect = contrast(data, "PD-L1 level", "therapy", "low", "high")
    print("\nHigh against low PD-L1, change of the probability of each therapy:")
    print(f"  {'therapy':66} {'true':>7} {'naive':>7}")
    for therapy, true, naive in zip(effect.options, effect.average, effect.naive, strict=True):
        print(f"  {therapy:66} {true:+7.3f} {naive:+7.3f}")
    print(f"\nPropensity P(PD-L1 level=high): {effect.propensity.min():.2f} to {effect.propensity.max():.2f}")
    print(f"{effect.changed:.0%} of {len(data)} patients get another therapy in the other world")

    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        plot_contrast(effect, options.out / "breast_cancer.png")
        print(f"wrote {options.out / 'breast_cancer.png'}")


if __name__ == "__main__":
    main()
