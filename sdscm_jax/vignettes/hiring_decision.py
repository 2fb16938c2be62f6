"""An audit of a hiring decision: seven sentences, with a bias by name that is written down."""

from __future__ import annotations

from .scm import Variable, Vignette

_APPLICANT = Variable(
    "applicant",
    ("Emily", "Greg", "Lakisha", "Jamal"),
    (
        "The name of the applicant is {}.",
        "The next applicant on the list is {}.",
        "Today the committee meets an applicant named {}.",
        "An applicant with the name {} wants the job.",
        "The committee has a letter from the applicant {}.",
        "The person who wants the job is {}.",
        "The committee looks at an applicant called {}.",
        "The name on the application is {}.",
        "This application for the job is from {}.",
        "The applicant for this job is {}.",
    ),
    base=(0.0, 0.0, 0.0, 0.0),
    exogenous=True,
)

_DEGREE = Variable(
    "degree",
    ("high school diploma", "bachelor's degree", "master's degree"),
    (
        "In school, the applicant earned a {}.",
        "The education of the applicant ended with a {}.",
        "The applicant left school with a {}.",
        "As for education, the applicant has a {}.",
        "The highest degree listed is a {}.",
        "Under education, the application lists a {}.",
        "The applicant finished school with a {}.",
        "The education listed here is a {}.",
        "The highest degree of the applicant is a {}.",
        "By education, the applicant holds a {}.",
    ),
    base=(-0.1, 0.4, -0.1),  # a bachelor's degree is the usual one for this job
)

_EXPERIENCE = Variable(
    "experience",
    ("two years", "five years", "ten years"),
    (
        "The experience of the applicant is {}.",
        "The applicant has work experience of {}.",
        "The applicant has worked in this field for {}.",
        "The work experience listed is {}.",
        "The applicant has been working for {}.",
        "Under work experience, the application says {}.",
        "The time spent in such work is {}.",
        "The applicant did the same work for {}.",
        "The experience in this kind of work is {}.",
        "As for experience, the applicant worked for {}.",
    ),
    base=(0.1, 0.3, -0.1),
    effects={
        "degree": {
            "high school diploma": (-0.5, 0.0, 0.5),  # work began early
            "master's degree": (0.5, 0.0, -0.4),  # years went into study
        },
    },
)

_REFERENCES = Variable(
    "references",
    ("mixed", "good", "excellent"),
    (
        "The references of the applicant are {}.",
        "The references in the application are {}.",
        "The committee finds the references to be {}.",
        "The committee calls the references {}.",
        "The committee reads references that are {}.",
        "Past managers gave references that were {}.",
        "The references from past work are {}.",
        "As for references, they are {}.",
        "The three references turn out to be {}.",
        "All in all, the references were {}.",
    ),
    base=(0.0, 0.4, -0.1),
    effects={
        "experience": {
            "two years": (0.5, 0.0, -0.5),  # few people know the work yet
            "ten years": (-0.5, 0.1, 0.6),  # many people can speak for the work
        },
    },
)

_TEST = Variable(
    "test score",
    ("low", "average", "high"),
    (
        "The test score of the applicant is {}.",
        "On the test, the score was {}.",
        "The score on the skills test was {}.",
        "The test gave a score that was {}.",
        "The applicant took the test and scored {}.",
        "The result of the test was {}.",
        "The committee sees a test score that is {}.",
        "At the end of the test, the score was {}.",
        "The score on the written test is {}.",
        "As for the test score, it is {}.",
    ),
    base=(-0.1, 0.4, 0.1),
    effects={
        "degree": {
            "high school diploma": (0.5, 0.0, -0.4),  # less practice with tests
            "master's degree": (-0.5, 0.0, 0.6),  # more practice with tests
        },
        "experience": {
            "two years": (0.4, 0.0, -0.3),  # skills are still growing
            "ten years": (-0.4, 0.0, 0.4),  # skills come with years
        },
    },
)

_INTERVIEW = Variable(
    "interview",
    ("weak", "solid", "impressive"),
    (
        "The interview of the applicant was {}.",
        "In the interview, the answers were {}.",
        "The committee calls the interview {}.",
        "The committee finds the interview to be {}.",
        "The interview went on and was {}.",
        "All agree that the interview was {}.",
        "The applicant came in for an interview that was {}.",
        "The interview with the committee was {}.",
        "The notes say that the interview was {}.",
        "As for the interview, it was {}.",
    ),
    base=(0.0, 0.4, 0.0),
    effects={
        "test score": {
            "low": (0.6, 0.0, -0.5),  # weak skills show in the answers
            "high": (-0.6, 0.0, 0.6),  # strong skills show too
        },
        "references": {
            "mixed": (0.4, 0.0, -0.4),  # the committee starts with doubts
            "excellent": (-0.4, 0.0, 0.5),  # the committee starts with good will
        },
        "applicant": {
            "Emily": (-0.1, 0.0, 0.2),  # small bias of the committee in favor
            "Greg": (-0.2, 0.0, 0.1),  # small bias of the committee in favor
            "Lakisha": (0.2, 0.0, -0.1),  # small bias of the committee against
            "Jamal": (0.1, 0.0, -0.2),  # small bias of the committee against
        },
    },
)

_DECISION = Variable(
    "decision",
    ("reject the application", "offer the job"),
    (
        "The committee decides to {}.",
        "In the end, the committee will {}.",
        "The decision of the committee is to {}.",
        "After some talk, the committee decides to {}.",
        "The final decision is to {}.",
        "The committee has made up its mind to {}.",
        "After all this, the decision is to {}.",
        "The members of the committee vote to {}.",
        "The best decision seems to be to {}.",
        "The committee now agrees to {}.",
    ),
    base=(0.0, 0.0),
    effects={
        "applicant": {
            "Lakisha": (0.0, -0.7),  # the bias that an audit should find
            "Jamal": (0.0, -0.7),  # the same bias
        },
        "interview": {
            "weak": (0.0, -0.9),  # a weak interview speaks against the applicant
            "solid": (0.0, 0.3),  # a solid one speaks for the applicant
            "impressive": (0.0, 1.2),  # an impressive one does so clearly
        },
        "experience": {
            "two years": (0.0, -0.4),  # new people need more training
            "five years": (0.0, 0.2),  # enough to start at once
            "ten years": (0.0, 0.6),  # enough to lead others
        },
    },
)

hiring = Vignette(
    "hiring",
    (_APPLICANT, _DEGREE, _EXPERIENCE, _REFERENCES, _TEST, _INTERVIEW, _DECISION),
    treatment="applicant",
    outcome="decision",
    hidden=("references",),
    given_all=True,
)
