"""A program of five sites for the embedded language model, in which effects are large enough to be seen."""

from __future__ import annotations

import sdscm_jax as sd

LOW, HIGH = "high school diploma", "master's degree"
SITES = ("applicant", "degree", "experience", "test", "interview")


def hiring(lm: sd.LanguageModel) -> sd.Phrase:
    """Degree causes experience and test score, which all cause the interview; the three choices are coupled apart."""
    listed = sd.Choice(lm, "The next applicant on the list is {}.", ["Emily", "Lakisha"])
    applicant = sd.sample("applicant", listed, exogenous=True)
    degree = sd.sample("degree", sd.Choice(lm, "The highest degree listed is a {}.", [LOW, HIGH], given=[applicant]))
    years = ["two years", "ten years"]
    worked = sd.Choice(lm, "The experience of the applicant is {}.", years, given=[degree], temperature=0.5)
    experience = sd.sample("experience", worked)
    scores = ["low", "average", "high"]
    tested = sd.Choice(
        lm, "The test score of the applicant is {}.", scores, given=[degree, experience], temperature=0.5,
        coupling="inverse_cdf",
    )  # fmt: skip
    test = sd.sample("test", tested)
    went = sd.Choice(
        lm, "The interview was {}.", ["weak", "solid", "impressive"], given=[applicant, degree, experience, test],
        temperature=0.5,
    )  # fmt: skip
    return sd.sample("interview", went)
