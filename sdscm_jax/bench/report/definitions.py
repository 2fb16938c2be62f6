"""Names and meanings of the columns of the benchmark's tables."""

from __future__ import annotations

_HEADINGS = {
    "rank": "mean rank",
    "datasets": "data sets",
    "ate": "ATE",
    "ate_true": "true ATE",
    "pehe": "PEHE",
    "pehe_sd_y": "PEHE / sd(y)",
    "pehe_sd_ite": "PEHE / sd(ITE)",
    "pehe_floor_sd_y": "PEHE floor / sd(y)",
    "cate_r2": "R²",
    "cate_r2_reference": "R² as in the paper’s code",
    "sd_y": "sd(y)",
    "sd_ite": "sd(ITE)",
    "sd_ite_sd_y": "sd(ITE) / sd(y)",
    "seconds": "CPU s",
    "auuc": "AUUC / sd(y)",
    "qini": "Qini",
    "naive": "naive difference",
    "confounding_sd_y": "confounding / sd(y)",
    "overlap_min": "least propensity",
    "overlap_max": "greatest propensity",
    "overlap_outside": "share outside [0.1, 0.9]",
    "treated": "share treated",
    "effective_datasets": "effective data sets",
    "signal_to_noise": "signal to noise",
}
_WORDS = {
    "ate": "ATE",
    "cate": "CATE",
    "ite": "ITE",
    "pehe": "PEHE",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "se": "SE",
    "sd": "sd",
    "cpu": "CPU",
}

DEFINITIONS = {
    "ITE": (
        "individual effect of a unit: its outcome under treatment minus its outcome without. Both are known here, "
        "because the benchmark simulates both worlds with the same noise."
    ),
    "CATE": (
        "the expected effect given all covariates. It equals the ITE where the outcome is a probability; where an "
        "option is drawn, the ITE varies around it."
    ),
    "ATE": ("average effect over the units of a data set (the sample’s own, sometimes called SATE)."),
    "all / observed": (
        "with “all”, an estimator sees every covariate; with “observed”, some causes of treatment and outcome are "
        "withheld, so that there is hidden confounding."
    ),
    "ATE bias, RMSE, R²": (
        "over data sets, of the estimated against the true ATE: mean error; root mean squared error; 1 − squared "
        "error / variance of the truth. One exploding estimate can rule all three."
    ),
    "PEHE": (
        "root mean squared error of a data set’s estimated individual effects against the true ITE. Divided by "
        "sd(y) it can be compared between data sets. Divided by sd(ITE), 1 is what the true ATE for every unit attains."
    ),
    "PEHE floor": (
        "the PEHE of the exact CATE: what no rule from covariates can be expected to beat, since an ITE’s own noise "
        "cannot be seen in them. It is 0 where every ITE is its CATE. Only a method that looks at a unit’s own outcome "
        "can come below it."
    ),
    "R²": (
        "1 − squared error / variance of the true effects within a data set. 0 is what their mean attains, below 0 is"
        " worse than it. “As in the paper’s code” swaps truth and estimate and clips at 0; it is there for "
        "comparison only."
    ),
    "Coverage": (
        "share of units whose interval contains the truth; it should be the nominal level. CATE intervals are "
        "about the expected effect, ITE intervals about the individual one, so that the latter must be wider."
    ),
    "Width": ("mean length of the intervals in sd(y). Narrow is good only where coverage holds."),
    "Interval score": (
        "width plus 2 / (1 − level) times the distance by which the truth is missed, in sd(y): judges coverage and "
        "width together; less is better."
    ),
    "Regret": (
        "what is lost for a unit, on average and in sd(y), by treating where the estimate is positive instead of "
        "where the true effect is."
    ),
    "Rank correlation": ("Spearman’s, between estimated and true effects."),
    "AUUC, Qini": (
        "how good the order of the estimates is for choosing whom to treat, judged by the true expected effects. AUUC: "
        "the area under the uplift curve, what is gained per unit, in sd(y), by treating those with the greatest "
        "estimates, averaged over the share treated. Qini: that area above random order’s, in that of the perfect "
        "order: 1 is perfect, 0 random. Greater outcomes count as better."
    ),
    "Beats zero, beats constant": (
        "share of data sets where the PEHE is less than that of saying 0, or the true average effect, for every "
        "unit. A failure beats nothing."
    ),
    "Mean rank": ("estimators are ranked by PEHE within each data set; a failure ranks last."),
    "Baselines": (
        "zero says 0 for every unit, constant the true ATE for every unit, oracle_ite the true individual effects and "
        "oracle_cate the exact expected ones. The first is best in columns about individual and average effects, the "
        "second in those about expected effects: where an ITE varies around its CATE, either is wrong about the other. "
        "Oracles are shown the truth, are printed to compare with, and never named best."
    ),
    "Confounding": (
        "the naive difference of the arms’ means minus the true ATE, on average over who would be treated, by the "
        "units’ propensities. It is 0 where treatment is drawn by lot."
    ),
    "Imbalance": (
        "what the naive difference of this data set differs by besides: the chance of who was treated in it, which "
        "an experiment has too."
    ),
    "Propensity": ("the true probability of treatment given a unit’s covariates, under the language model."),
    "Limits in brackets": (
        "95\u00a0% intervals over data sets, clustered by wording: data sets of one wording share their mechanisms,"
        " and so their errors. There are none where it is not known which data sets share a wording."
    ),
    "Effective number of data sets": (
        "how many independent data sets would tell as much about the error of the average effect: n data sets with "
        "m of a wording, whose errors correlate by r within a wording, are worth n / (1 + (m − 1) r)."
    ),
}

_TIPS = {
    "ate": "ATE bias, RMSE, R²",
    "pehe": "PEHE",
    "pehe_floor": "PEHE floor",
    "regret": "Regret",
    "rank_correlation": "Rank correlation",
    "auuc": "AUUC, Qini",
    "qini": "AUUC, Qini",
    "beats": "Beats zero, beats constant",
    "rank": "Mean rank",
    "confounding": "Confounding",
    "imbalance": "Imbalance",
    "overlap": "Propensity",
    "mean_rank": "Mean rank",
}


def heading(column: str) -> str:
    """A column's name for people.

    >>> heading("ate_rmse"), heading("cate_coverage_se"), heading("pehe_sd_y"), heading("my_column")
    ('ATE RMSE', 'CATE coverage SE', 'PEHE / sd(y)', 'my column')
    """
    if column in _HEADINGS:
        return _HEADINGS[column]
    stem, _, last = column.rpartition("_")
    if stem in _HEADINGS and stem not in _WORDS:
        return f"{_HEADINGS[stem]}, {_WORDS.get(last, last)}"
    return " ".join(_WORDS.get(word, word) for word in column.split("_"))


def definition(column: str) -> str:
    """What a column means; empty if that is not known."""
    for part, key in (("coverage", "Coverage"), ("width", "Width"), ("_score", "Interval score"), ("_r2", "R²")):
        if part in column and not (part == "_r2" and column.startswith("ate")):
            return DEFINITIONS[key]
    matching = [start for start in _TIPS if column == start or column.startswith(f"{start}_")]
    return DEFINITIONS[_TIPS[max(matching, key=len)]] if matching else ""
