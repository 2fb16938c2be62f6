"""What an audit could have found: a result for tests of what is made of results."""

import itertools

import numpy as np
import pandas as pd

from sdscm_jax.audit.report.words import EFFECTS
from sdscm_jax.audit.result import AuditResult, Pair
from sdscm_jax.audit.spec import AuditSpec

SPEC = AuditSpec.from_dict(
    {
        "name": "names",
        "title": 'Names & <b>jobs</b> "quoted"',
        "question": "Does a <name> change | the *decision*?",
        "attribute": {
            "name": "applicant",
            "levels": ["white-sounding <b>name</b>", 'a "second" name', "no name"],
            "proxies": {
                "first name": {
                    "templates": ["The applicant is {}.", "The name on the letter is {}."],
                    "phrases": {
                        "white-sounding <b>name</b>": ["Emily", "Greg"],
                        'a "second" name': ["Lakisha", "Jamal"],
                        "no name": ["someone", "an applicant"],
                    },
                },
                "pronoun <i>": {
                    "templates": ["In the letter, {} asks for the job."],
                    "phrases": {
                        "white-sounding <b>name</b>": ["she", "she herself"],
                        'a "second" name': ["he", "he himself"],
                        "no name": ["they", "they themselves"],
                    },
                },
            },
        },
        "variables": [
            {"name": "degree", "options": ["none", "some"], "templates": ["The degree: {}."]},
            {
                "name": "test score", "options": ["low", "high"], "parents": ["applicant", "degree"],
                "templates": ["The score is {}.", "The score was {}."],
            },
            {
                "name": "interview", "options": ["weak", "solid"], "parents": ["applicant", "test score"],
                "templates": ["The interview is {}."],
            },
            {
                "name": "decision", "options": ["reject & <forget>", "offer the job"],
                "parents": ["applicant", "degree", "test score", "interview"], "templates": ["They will {}."],
            },
        ],
        "outcome": {"name": "decision", "option": "offer the job"},
        "mediators": {"legitimate": ["test score"], "not_legitimate": ["interview"]},
        "option_wordings": {
            "decision": [["reject & <forget>", "offer the job"], ["say no", "say yes"]],
        },
        "text": {"template": "They explain: {}", "max_tokens": 8},
        "can_show": "What <the model> does.",
        "cannot_show": "What *people* do.",
        "source": "Bertrand & Mullainathan 2004",
        "licence": "Apache-2.0",
    }
)  # fmt: skip
LMS = ("small <lm>", "large_lm")
WORDINGS, OPTION_WORDINGS = 12, 2


def audit(lms: tuple[str, ...] = LMS, *, known: bool = True, spec: AuditSpec = SPEC) -> AuditResult:
    """What an audit could have found; effects are the means of the cells, and parts add up."""
    random = np.random.default_rng(7)
    groups = list(itertools.product(lms, [p.name for p in spec.proxies], spec.levels[1:]))
    cells = []
    for lm, proxy, level in groups:
        centre = {"direct": -0.05, "illegitimate": 0.02, "legitimate": 0.03 * (lm == lms[0])}
        for wording, option_wording in itertools.product(range(WORDINGS), range(OPTION_WORDINGS)):
            parts = {name: value + random.normal(0, 0.02) for name, value in centre.items()}
            whole = {"total": sum(parts.values()), "unfair": parts["direct"] + parts["illegitimate"]}
            p = 0.4 + random.normal(0, 0.03)
            keys = {
                "lm": lm, "proxy": proxy, "level": level, "wording": wording, "option_wording": option_wording,
                "repetition": wording,
            }  # fmt: skip
            ends = {"p_reference": p, "p_level": p + whole["total"]}
            cells.append(keys | ends | parts | whole | {"sd_unit": 0.1})
    table = pd.DataFrame(cells)
    effects = []
    for (lm, proxy, level), name in itertools.product(groups, EFFECTS):
        mask = (table["lm"] == lm) & (table["proxy"] == proxy) & (table["level"] == level)
        value, half = table.loc[mask, name].mean(), 2 * table.loc[mask, name].std() / np.sqrt(WORDINGS)
        found = {"value": value, "lower": value - half, "upper": value + half, "discovery": abs(value) > half}
        keys = {"lm": lm, "proxy": proxy, "level": level, "effect": name}
        more = {
            "p": 0.0004 if found["discovery"] else 0.31, "q": 0.002, "q_any": 0.01, "wordings": WORDINGS,
            "repetitions": WORDINGS, "detectable": 1.5 * half, "same_as": "", "least": np.nan, "greatest": np.nan,
            "method": "exact",
        }  # fmt: skip
        effects.append(keys | found | more)
    differences = [
        {
            "lm": lm, "other": other, "proxy": proxy, "level": level, "effect": name, "value": 0.0311, "lower": 0.011,
            "upper": 0.0512, "p": 0.001, "q": 0.02, "q_any": 0.1, "detectable": 0.02, "same_as": "",
            "discovery": name == "legitimate",
        }
        for lm, other in itertools.combinations(lms, 2)
        for _, proxy, level in groups[: len(groups) // len(lms)]
        for name in EFFECTS
    ]  # fmt: skip
    keys = [dict(zip(("lm", "proxy", "level"), group, strict=True)) for group in groups]
    totals = table.groupby(["lm", "proxy", "level"])["total"].mean()
    reached = dict(zip(groups, (totals[group] for group in groups), strict=True))
    return AuditResult(
        spec=spec,
        lms=pd.DataFrame(
            {
                "lm": lms, "source": [f"org/{lm}" for lm in lms], "fingerprint": ["ab12"] * len(lms),
                "parameters": [124_000_000] * len(lms), "context": [1024] * len(lms), "tokens": [5301] * len(lms),
            }
        ),
        cells=table,
        effects=pd.DataFrame(effects),
        differences=pd.DataFrame(differences),
        variance=pd.DataFrame([k | {"wording": 4e-4, "option_wording": 1e-4, "unit": 5e-4} for k in keys]),
        scorings=pd.DataFrame(
            [
                k | {
                    "scoring": s, "total": t * f, "lower": t * f - 0.02, "upper": t * f + 0.02,
                    "difference": np.nan if f == 1 else t * (f - 1), "difference_lower": np.nan if f == 1 else -0.1,
                    "difference_upper": np.nan if f == 1 else 0.1,
                }
                for k, t in zip(keys, reached.values(), strict=True)
                for s, f in (("sequence", 1.0), ("mean", 0.6))
            ]
        ),
        couplings=pd.DataFrame(
            [
                k | {"coupling": c, "changed": share, "lower_bound": 0.04, "upper_bound": 0.71}
                for k in keys
                for c, share in (("gumbel", 0.062), ("inverse_cdf", 0.041), ("independent", 0.48))
            ]
        ),
        pairs=tuple(
            Pair(
                lm, spec.proxies[0].name, unit, spec.levels,
                tuple(
                    f"The applicant is {spec.proxies[0].phrases[level][0]}. The score is {score}. They will {option}."
                    for level, score, option in zip(
                        spec.levels, ("high", "low", "high"), ("offer the job", "reject & <forget>", "offer the job"),
                        strict=False,
                    )
                ),
                ("offer the job", "reject & <forget>", "offer the job")[: len(spec.levels)],
                ("because of <i>it</i>.", "", "")[: len(spec.levels)],
            )
            for lm in lms
            for unit in (3, 8)
        ),
        asked=pd.DataFrame(
            [
                {
                    "proxy": proxy.name, "wording": w, "option_wording": o, "site": v.name, "before": "Before  <this>.",
                    "prefix": v.templates[w % len(v.templates)].prefix,
                    "suffix": v.templates[w % len(v.templates)].suffix,
                    "options": spec.option_wordings.get(v.name, (v.options,) * OPTION_WORDINGS)[o],
                }
                for proxy in spec.proxies
                for w in range(WORDINGS)
                for o in range(OPTION_WORDINGS)
                for v in spec.variables
            ]
        ),
        settings={
            "level": 0.95, "wordings": WORDINGS, "option_wordings": OPTION_WORDINGS, "seed": 0, "rate": 0.05,
            "versions": {"sdscm-jax": "0.1.0", "jax": "0.10.2"},
        },
        truth=pd.DataFrame(
            [
                {"proxy": proxy.name, "level": level, "effect": name, "value": 0.01 * (1 + i)}
                for i, proxy in enumerate(spec.proxies)
                for level in spec.levels[1:]
                for name in EFFECTS
            ]
        )
        if known
        else None,
        design=pd.DataFrame(
            [
                {
                    "proxy": proxy.name, "dimension": name, "levels": levels, "drawn": levels > 1,
                    "repetitions": WORDINGS, "wordings": 1, "option_wordings": OPTION_WORDINGS,
                }
                for proxy in spec.proxies
                for name, levels in (("sentence of applicant", WORDINGS), ("first name", 24), ("sentence of degree", 1))
            ]
        ),
    )  # fmt: skip
