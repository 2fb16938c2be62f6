"""A letter of reference through which a name reaches a decision: a text that mediates, beside a direct effect."""

from __future__ import annotations

from .phrases import effects_of_phrases, text_variable
from .scm import Variable, Vignette

_STUDENT = Variable(
    "student",
    ("Emily", "Greg", "Lakisha", "Jamal"),
    (
        "The name of the student is {}.",
        "A student named {} wants to go to a graduate school.",
        "The student who asks for a letter is {}.",
        "The letter is for a student called {}.",
        "The graduate school has a student called {} on the list.",
        "The next student on the list is {}.",
        "The graduate school hears from a student named {}.",
        "Today the professor meets the student {}.",
        "The professor writes a letter for {}.",
        "The letter of reference is about {}.",
    ),
    base=(0.0, 0.0, 0.0, 0.0),
    exogenous=True,
)

_GRADES = Variable(
    "grades",
    ("poor", "fair", "good"),
    (
        "The grades of the student are {}.",
        "The student has grades that are {}.",
        "The grades on the list are {}.",
        "As for grades, they are {}.",
        "In college, the grades were {}.",
        "The grades from college are {}.",
        "All in all, the grades are {}.",
        "The college says that the grades are {}.",
        "The school sees grades that are {}.",
        "The grades in the exams are {}.",
    ),
    base=(-0.2, 0.3, 0.1),
)

_LETTER = text_variable(
    "letter",
    "{}, {} and {}",
    (
        ("is quiet", "is friendly", "is brilliant"),
        ("works with help", "works alone", "works hard"),
        ("passed the course", "did well", "stood out"),
    ),
    (
        "The professor writes that the student {}.",
        "The letter says that the student {}.",
        "In the letter, the professor writes that the student {}.",
        "The letter of reference says that the student {}.",
        "According to the letter, the student {}.",
        "In the words of the professor, the student {}.",
        "The reference tells that the student {}.",
        "The professor says that the student {}.",
        "One reads in the letter that the student {}.",
        "The professor finds that the student {}.",
    ),
    bases=((0.1, 0.3, 0.0), (0.0, 0.2, 0.1), (0.1, 0.3, 0.0)),
    effects={
        "grades": {
            "poor": ((0.6, 0.1, -0.9), (0.7, 0.0, -0.5), (1.0, 0.0, -1.0)),
            "good": ((-0.5, 0.0, 0.8), (-0.6, 0.0, 0.5), (-0.9, 0.1, 1.0)),
        },
        # The bias of those who write letters: kind words for some, praise for others.
        "student": {
            "Emily": ((-0.1, 0.2, 0.2), (0.0, 0.0, 0.1), (0.0, 0.1, 0.2)),
            "Greg": ((-0.2, -0.2, 0.5), (-0.1, 0.1, 0.1), (-0.1, 0.0, 0.3)),
            "Lakisha": ((0.1, 0.4, -0.5), (0.1, 0.0, 0.1), (0.2, 0.1, -0.4)),
            "Jamal": ((0.4, 0.0, -0.4), (0.2, 0.0, -0.1), (0.2, 0.0, -0.3)),
        },
    },
)

_ADMISSION = Variable(
    "admission",
    ("turn the student down", "take the student in"),
    (
        "The graduate school decides to {}.",
        "In the end, the school will {}.",
        "The school has made up its mind to {}.",
        "The final word of the school is to {}.",
        "After some thought, the school decides to {}.",
        "The answer of the school is to {}.",
        "The people at the school vote to {}.",
        "The graduate school will {}.",
        "After all this, the school chooses to {}.",
        "The school now agrees to {}.",
    ),
    base=(0.2, 0.0),
    effects={
        "letter": effects_of_phrases(
            _LETTER,
            {
                "is quiet": (0.5, 0.0),
                "is brilliant": (0.0, 0.9),
                "works with help": (0.4, 0.0),
                "works hard": (0.0, 0.4),
                "passed the course": (0.6, 0.0),
                "stood out": (0.0, 0.9),
            },
        ),
        "grades": {
            "poor": (0.7, 0.0),  # grades count by themselves
            "good": (0.0, 0.7),
        },
        "student": {
            "Lakisha": (0.4, 0.0),  # the bias of the school itself, past the letter
            "Jamal": (0.4, 0.0),  # the same bias
        },
    },
)

reference_letter = Vignette(
    "reference_letter",
    (_STUDENT, _GRADES, _LETTER, _ADMISSION),
    treatment="student",
    outcome="admission",
)
