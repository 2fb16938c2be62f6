"""A patient's journey: a free-text note at every visit, told in two worlds; and the same as a loop of JAX.

    python examples/patient_journey.py

The language model writes the note of a visit after reading those before. In another world an early
note says something else. The same patient has the same noise there: where the other note does not
matter, the later ones read as they did, word for word.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import jax
import numpy as np
from numpyro.contrib.control_flow import scan

import sdscm_jax as sd

AGES = ["35", "55", "75"]
GRADES = ["grade 1", "grade 2", "grade 3"]


def journey(visits: int, max_tokens: int = 16) -> Callable:
    """A program with a site for each visit: a Python loop writes them one after another."""

    def model(lm: sd.LanguageModel) -> None:
        age = sd.sample("age", sd.Choice(lm, "This {}-year-old woman visits the clinic.", AGES), exogenous=True)
        notes: list[sd.Phrase] = []
        for t in range(visits):
            note = sd.Text(lm, "The {}.", given=[age, *notes], max_tokens=max_tokens, temperature=0.8)
            notes.append(sd.sample(f"note_{t}", note))

    return model


def course(visits: int) -> Callable:
    """A program with one site for all later visits: NumPyro's scan, whose state is a phrase."""

    def model(lm: sd.LanguageModel) -> Any:
        age = sd.sample("age", sd.Choice(lm, "This {}-year-old woman visits the clinic.", AGES), exogenous=True)

        def visit(last: sd.Phrase, _: None) -> tuple[sd.Phrase, jax.Array]:
            grade = sd.Choice(lm, "The histology of the tumor is {}.", GRADES, given=[age, last])
            now = sd.sample("grade", grade)
            return now, now.index

        first = sd.sample("first", sd.Choice(lm, "The histology of the tumor is {}.", GRADES, given=[age]))
        return scan(visit, first, None, length=visits - 1)[1]

    return model


def parting(data: sd.Simulation, unit: int, name: str) -> tuple[int, str, str]:
    """The number of the token at which a note parts from the factual one, and the words there."""
    phrase = data.graph[name].phrase
    told, other = (phrase.at(data.values[name][unit, w]) for w in (0, 1))
    at = int(other.first_difference(told))
    words = [phrase.form.codec.tokenizer.decode(max(int(p.tokens[at]), 0)) if at >= 0 else "" for p in (told, other)]
    return at, words[0].strip(), words[1].strip()


def side_by_side(left: str, right: str, width: int = 46) -> str:
    """Two texts in two columns."""
    columns = [textwrap.wrap(text, width) for text in (left, right)]
    return "\n".join(f"  {a:{width}}  {b}" for a, b in zip_longest(*columns, fillvalue=""))


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", help="directory or hub id of a language model; default: the embedded one")
    parser.add_argument("--visits", type=int, default=6)
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--note", default="notes on her medical history mention osteoporosis")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    lm, visits = sd.load_lm(options.lm), options.visits

    # The first visit differs.
    data = sd.simulate(journey(visits), options.seed, options.units, lm, worlds=[{"note_0": options.note}])
    names = [f"note_{t}" for t in range(visits)]
    parted = np.array([[parting(data, i, name)[0] for name in names] for i in range(options.units)])
    changed = (parted >= 0).mean(0)
    # A patient to whom both happen: some later notes change, others do not.
    mixed = np.flatnonzero((parted[:, 0] >= 0) & (parted[:, 1:] >= 0).any(1) & (parted[:, 1:] < 0).any(1))
    unit = int(mixed[0]) if len(mixed) else 0
    print(f"Patient {unit}, as it was (left), and had the first note said otherwise (right)\n")
    for name in ("age", *names):
        left, right = (data.graph[name].phrase.at(data.values[name][unit, w]).sentence for w in (0, 1))
        print(side_by_side(left, right))
        if name in names and parted[unit, names.index(name)] >= 0:
            at, told, other = parting(data, unit, name)
            print(f"  ^ {name} parts at token {at}: {told!r}, {other!r}")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(names, changed, strict=True))
    print(f"\nNotes that change, over {options.units} patients: {shares}")

    # The same in one loop: the carry is a phrase, and the program is as long for 6 visits as for 600.
    worlds = [{"first": "grade 1"}, {"first": "grade 3"}]
    loop = sd.simulate(course(visits), options.seed, options.units, lm, worlds=worlds, logp=[])
    high = (loop.values["grade"][:, 1:] == GRADES.index("grade 3")).mean(0)  # [worlds, visits - 1]
    print("\nP(grade 3) at later visits, had the first been of")
    for grade, shares in zip(("grade 1", "grade 3"), high, strict=True):
        print(f"  {grade}: {' '.join(f'{share:.2f}' for share in shares)}")
    return {"unit": unit, "parted": parted, "changed": changed, "grade 3": high, "data": data}


if __name__ == "__main__":
    main()
