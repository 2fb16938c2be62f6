"""What the coupling of noise decides: two dice, and the therapy of the oncology model.

    python benchmarks/couplings.py                        # figures of docs/counterfactuals.md
    python benchmarks/couplings.py --units 50 --draws 1000 --out /tmp/c.json --picture /tmp/c.png

Only the coupling of the outcome differs between the runs, so that all of them are about the same
units: the same patients, and the same probability of each therapy in each world.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
COUPLINGS = ("gumbel", "inverse_cdf", "independent")
FACES, P, Q = ("sun", "rain", "snow"), (0.2, 0.5, 0.3), (0.1, 0.6, 0.3)
TREATMENT, LOW, HIGH, OUTCOME = "PD-L1 level", "low", "high", "therapy"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print the tables, write the JSON and the picture; the value is what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200_000, help="throws of the two dice")
    parser.add_argument("--seed", type=int, default=0, help="of the wording, the units and the throws")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "couplings.json")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "couplings.png")
    options = parser.parse_args(argv)
    from measured import provenance

    started = time.perf_counter()
    report = {
        **provenance(),
        "units": options.units,
        "draws": options.draws,
        "seed": options.seed,
        "dice": {"P": P, "Q": Q, **{coupling: throw(coupling, options) for coupling in COUPLINGS}},
        "oncology": oncology(options),
    }
    report["seconds"] = round(time.perf_counter() - started)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    draw(report, options.picture)
    print("\n\n".join("\n".join(table) for table in tables(report)))
    return report


def agreement(coupling: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """P(X = Y) in closed form, for choices with probabilities ``p``, ``q`` ``[..., K]``."""
    if coupling == "independent":
        return (p * q).sum(-1)
    if coupling == "inverse_cdf":
        low, high = (np.concatenate([np.zeros_like(x[..., :1]), x.cumsum(-1)], -1) for x in (p, q))
        shared = np.minimum(low[..., 1:], high[..., 1:]) - np.maximum(low[..., :-1], high[..., :-1])
        return np.maximum(shared, 0).sum(-1)
    # Both pick k where G_k exceeds every G_j + max(log p_j/p_k, log q_j/q_k).
    ratio = np.maximum(p[..., None, :] / p[..., :, None], q[..., None, :] / q[..., :, None])
    return (1 / ratio.sum(-1)).sum(-1)


def throw(coupling: str, options: argparse.Namespace) -> dict[str, Any]:
    """Two dice that share their noise: agreement in closed form, and the joint law by simulation."""
    import jax
    import jax.numpy as jnp

    from sdscm_jax.dsl.noise.couplings.registry import parse_coupling

    key = jax.random.key(options.seed)
    own = parse_coupling(coupling)
    noise = [own.draw(key, FACES, (options.draws,))] * 2
    if own.redraws:
        noise[1] = own.draw(jax.random.fold_in(key, 1), FACES, (options.draws,))
    x, y = (np.asarray(own.respond(jnp.log(jnp.asarray(probs)), n)) for probs, n in zip((P, Q), noise, strict=True))
    joint = np.bincount(3 * x + y, minlength=9).reshape(3, 3) / options.draws
    return {
        "agreement": float(agreement(coupling, np.array(P), np.array(Q))),
        "simulated_agreement": float((x == y).mean()),
        "joint": joint.tolist(),
        "of_sun": (joint[0] / joint[0].sum()).tolist(),
    }


def oncology(options: argparse.Namespace) -> dict[str, Any]:
    """The effect of PD-L1 on the therapy, under each coupling of the therapy."""
    import jax

    import sdscm_jax as sd
    from sdscm_jax.families import Family

    lm = sd.load_lm()
    model = Family.from_vignette(sd.vignettes.oncology).member(options.seed)
    worlds = [{TREATMENT: LOW}, {TREATMENT: HIGH}]
    found: dict[str, Any] = {}
    for coupling in COUPLINGS:
        coupled = sd.handlers.couple(model, coupling, sites=[OUTCOME])
        key = jax.random.key(options.seed)
        data = sd.simulate(coupled, key, options.units, lm, worlds=worlds, logp=[TREATMENT, OUTCOME], progress=False)
        effect = sd.contrast(data, TREATMENT, OUTCOME, LOW, HIGH)
        p, q = (x / x.sum(-1, keepdims=True) for x in effect.probabilities.swapaxes(0, 1))
        factual, treated = data.values[OUTCOME][:, 0], data.values[TREATMENT][:, 0]
        own = np.where(treated == data.graph[TREATMENT].options.index(HIGH), *effect.outcomes.T[::-1])
        drug = len(effect.options) - 1
        given = (effect.outcomes == drug).astype(float)
        found[coupling] = {
            "ate_probability": float(effect.average[drug]),
            "ate_outcome": float((given[:, 1] - given[:, 0]).mean()),
            "sd_ite_outcome": float((given[:, 1] - given[:, 0]).std()),
            "sd_ite_probability": float(effect.individual[:, drug].std()),
            "changed": effect.changed,
            "changed_closed_form": float(1 - agreement(coupling, p, q).mean()),
            "gains": float(((given[:, 1] - given[:, 0]) > 0).mean()),
            "loses": float(((given[:, 1] - given[:, 0]) < 0).mean()),
            "own_agreement": float((factual == own).mean()),
        }
    orders = [list(order) for order in itertools.permutations(range(p.shape[-1]))]
    by_order = [float(1 - agreement("inverse_cdf", p[:, order], q[:, order]).mean()) for order in orders]
    taken = np.where((treated == data.graph[TREATMENT].options.index(HIGH))[:, None], q, p)
    return {
        "therapy": effect.options[drug],
        **found,
        "least_changed": float(np.abs(p - q).sum(-1).mean() / 2),
        "inverse_cdf_over_orders": [min(by_order), max(by_order)],
        "expected_own_agreement_of_independent": float((taken**2).sum(-1).mean()),
    }


def tables(report: dict[str, Any]) -> list[list[str]]:
    """The tables of docs/counterfactuals.md, as lines of Markdown."""
    dice, clinic = report["dice"], report["oncology"]
    first = [
        "| coupling | P(X = Y), closed form | simulated | P(Y = sun \\| X = sun) | P(Y = rain \\| X = sun) "
        "| P(Y = snow \\| X = sun) |",
        "|---|---|---|---|---|---|",
    ]
    for c in COUPLINGS:
        row = (dice[c]["agreement"], dice[c]["simulated_agreement"], *dice[c]["of_sun"])
        first.append(f"| `{c}` | " + " | ".join(f"{x:.3f}" for x in row) + " |")
    second = [
        "| coupling of `therapy` | ATE, probabilities | ATE, outcomes | sd of ITE, outcomes | outcome changes "
        "| closed form | agrees with own potential outcome |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in COUPLINGS:
        row = clinic[c]
        shares = (row["changed"], row["changed_closed_form"], row["own_agreement"])
        numbers = (f"{row['ate_probability']:+.3f}", f"{row['ate_outcome']:+.3f}", f"{row['sd_ite_outcome']:.3f}")
        second.append(f"| `{c}` | " + " | ".join((*numbers, *(f"{100 * x:.1f} %" for x in shares))) + " |")
    return [first, second]


def draw(report: dict[str, Any], path: Path) -> None:
    """The joint law of the two dice, and how many patients' therapy changes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.5])
    dice, clinic = report["dice"], report["oncology"]
    for axis, coupling in zip(axes, COUPLINGS, strict=False):
        joint = np.array(dice[coupling]["joint"])
        axis.imshow(joint, cmap="Blues", vmin=0, vmax=0.6)
        for i, j in np.ndindex(3, 3):
            axis.text(j, i, f"{joint[i, j]:.2f}", ha="center", va="center", color="white" if joint[i, j] > 0.3 else "k")
        axis.set_xticks(range(3), [f"{face}\n{q}" for face, q in zip(FACES, Q, strict=True)], fontsize=8)
        axis.set_yticks(range(3), [f"{face} {p}" for face, p in zip(FACES, P, strict=True)], fontsize=8)
        axis.set_title(f"{coupling}\nP(X = Y) = {dice[coupling]['agreement']:.2f}", fontsize=10)
        axis.set_xlabel("Y (other world)", fontsize=9)
    axes[0].set_ylabel("X (one world)", fontsize=9)
    bars = axes[3]
    colours = ("tab:green", "tab:red", "0.75")
    left = np.zeros(3)
    for colour, label, of in (
        (colours[0], "gets pembrolizumab only if PD-L1 is high", lambda c: c["gains"]),
        (colours[1], "only if it is low", lambda c: c["loses"]),
        (colours[2], "changes between other therapies", lambda c: c["changed"] - c["gains"] - c["loses"]),
    ):
        width = np.array([of(clinic[c]) for c in COUPLINGS])
        bars.barh(COUPLINGS, width, 0.6, left=left, color=colour, label=label)
        left = left + width
    for i, coupling in enumerate(COUPLINGS):
        bars.text(left[i], i, f" {clinic[coupling]['changed']:.0%}", va="center", fontsize=9)
    bars.axvline(clinic["least_changed"], color="k", linestyle=":", label="least that any coupling can have")
    bars.invert_yaxis()
    bars.set_xlim(0, 1.15 * left.max())
    bars.tick_params(labelsize=8)
    bars.set_title(
        f"{report['units']} patients: therapy differs between low and high PD-L1\n"
        f"(ATE on pembrolizumab {clinic['gumbel']['ate_probability']:+.2f} under each)",
        fontsize=10,
    )
    bars.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
