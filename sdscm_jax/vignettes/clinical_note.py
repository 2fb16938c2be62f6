"""A clinical note that tells of a hidden confounder; the mechanisms are plausible, not medical advice."""

from __future__ import annotations

from .phrases import text_variable
from .scm import Variable, Vignette

_AGE = Variable(
    "age",
    ("30", "50", "70"),
    (
        "A {}-year-old man comes to the hospital with pneumonia.",
        "The hospital takes in a {}-year-old man with pneumonia.",
        "This {}-year-old man is in the hospital with pneumonia.",
        "The patient in the hospital is a {}-year-old man with pneumonia.",
        "Today a {}-year-old man with pneumonia is in the hospital.",
        "The nurse meets a {}-year-old man with pneumonia.",
        "The patient with pneumonia is a {}-year-old man.",
        "On this day the hospital has a {}-year-old man with pneumonia.",
        "In the hospital lies a {}-year-old man with pneumonia.",
        "This case of pneumonia is about a {}-year-old man.",
    ),
    base=(0.0, 0.2, 0.1),
    exogenous=True,
)

_SEVERITY = Variable(
    "severity",
    ("mild", "moderate", "severe"),
    (
        "The pneumonia of the man is {}.",
        "The x-ray shows a pneumonia that is {}.",
        "On the x-ray, the pneumonia is {}.",
        "The doctor calls the pneumonia {}.",
        "The doctor finds that the pneumonia is {}.",
        "From the x-ray, the pneumonia seems to be {}.",
        "By the x-ray, the doctor knows that the pneumonia is {}.",
        "The infection of the lungs is {}.",
        "The doctor says that the infection is {}.",
        "As for the infection, it is {}.",
    ),
    base=(0.2, 0.3, 0.0),
    effects={
        "age": {
            "30": (0.5, 0.0, -0.6),  # young lungs hold out
            "70": (-0.5, 0.1, 0.5),  # old lungs do not
        },
    },
)

_NOTE = text_variable(
    "note",
    "{}, {} and {}",
    (
        ("looks well", "looks tired", "looks ill"),
        ("breathes with ease", "breathes fast", "breathes with effort"),
        ("walks alone", "needs help", "stays in bed"),
    ),
    (
        "The nurse writes that the patient {}.",
        "In the note, the nurse writes that the patient {}.",
        "The note of the nurse says that the patient {}.",
        "The note says that the patient {}.",
        "The nurse notes that the patient {}.",
        "At night the nurse writes that the patient {}.",
        "The note for the day says that the patient {}.",
        "The nurse on duty writes that the patient {}.",
        "In the words of the nurse, the patient {}.",
        "According to the note, the patient {}.",
    ),
    bases=((0.0, 0.3, 0.0), (0.0, 0.2, 0.0), (0.1, 0.2, 0.0)),
    effects={
        "severity": {
            "mild": ((1.1, 0.1, -1.1), (1.2, 0.0, -1.2), (1.0, 0.0, -1.0)),  # little to see
            "severe": ((-1.1, 0.0, 1.1), (-1.3, 0.1, 1.2), (-1.1, 0.0, 1.1)),  # hard to miss
        },
        "age": {
            "30": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.4, 0.0, -0.2)),  # young men walk
            "70": ((0.0, 0.2, 0.0), (0.0, 0.0, 0.0), (-0.4, 0.3, 0.1)),  # old men need help anyway
        },
    },
)

_DRUG = Variable(
    "drug",
    ("the usual drug", "the new drug"),
    (
        "The doctor gives him {}.",
        "The doctor decides on {}.",
        "For the pneumonia, the patient gets {}.",
        "The doctor in charge orders {}.",
        "That day the doctor starts {}.",
        "The treatment of the pneumonia is {}.",
        "Against the infection, he is given {}.",
        "The patient is treated with {}.",
        "The doctor chooses {}.",
        "From now on he takes {}.",
    ),
    base=(0.3, 0.0),
    effects={
        "severity": {
            "mild": (0.7, 0.0),  # what is usual is enough
            "severe": (0.0, 1.3),  # something must be tried
        },
        "age": {
            "70": (0.4, 0.0),  # doctors fear what is new in old men
        },
    },
)

_RECOVERY = Variable(
    "recovery",
    ("is still ill", "is well again"),
    (
        "After one week, the patient {}.",
        "A week later the patient {}.",
        "One week later, the man {}.",
        "When the week is over, the patient {}.",
        "At the end of the week, he {}.",
        "Seven days later, the patient {}.",
        "After seven days, the man {}.",
        "By the next week, the patient {}.",
        "In a week, the man {}.",
        "The week goes by, and the patient {}.",
    ),
    base=(0.0, 0.2),
    effects={
        "severity": {
            "mild": (0.0, 1.2),  # mild cases pass by themselves
            "severe": (1.3, 0.0),  # severe ones take longer than a week
        },
        "drug": {
            "the new drug": (0.0, 0.8),  # the new drug helps
        },
        "age": {
            "30": (0.0, 0.3),  # young men recover sooner
            "70": (0.4, 0.0),  # old men later
        },
    },
)

clinical_note = Vignette(
    "clinical_note",
    (_AGE, _SEVERITY, _NOTE, _DRUG, _RECOVERY),
    treatment="drug",
    outcome="recovery",
    hidden=("severity",),
)
