"""What the report says about any audit: its sections, effects, method and limits in plain words."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ...dsl.registered import Registered
from .spoken import listed

SECTIONS = {
    "summary": "Summary",
    "question": "The question",
    "effects": "Effects",
    "wordings": "Wording by wording",
    "variance": "What the effects vary with",
    "sensitivity": "Sensitivity to scoring and coupling",
    "pairs": "Example pairs",
    "asked": "Sentences that were asked",
    "method": "How it was done",
    "limits": "Limits",
    "provenance": "Provenance",
}

# Effects in their order; the names of the columns are the keys.
EFFECTS = {
    "total": "everything that changes when the attribute is set from the reference to the other level.",
    "direct": (
        "what changes when only the outcome’s own sentence sees the new level, and every variable in between stays as "
        "it was at the reference."
    ),
    "illegitimate": (
        "what the variables in between that the outcome should not depend on (“not legitimate”) add when they follow "
        "the new level, too, while the legitimate ones stay."
    ),
    "legitimate": (
        "what the variables in between that the outcome may rightly depend on (“legitimate”) add when they follow the "
        "new level, too."
    ),
    "unfair": "direct and illegitimate together: what is left of the total effect without the legitimate part.",
}

NO_CHAT = "The audit does not chat with a language model. "
METHOD = (
    (
        "Probabilities, not answers",
        "{}Each variable of the graph is a sentence with a blank and a "
        "list of options for the blank. The model is shown the sentences that the variable may depend on, and we read "
        "off how probable it finds each option compared with the other options.",
    ),
    (
        "Two worlds, not two groups",
        "The attribute is set to the reference level, and everything that follows is worked out; then it is set to the "
        "other level. Nothing else is touched. So a difference between the two is an effect of the attribute according "
        "to the model, and cannot be due to applicants, patients or readers who differ in other ways.",
    ),
    (
        "All combinations",
        "Effects whose method is “exact” come from every combination of options, each weighted by its probability. "
        "They have no sampling error. Where a variable is free text, nobody can sum over all texts: the method is "
        "“drawn”. In every wording so many units are drawn as the settings say (draws), each with the same noise at "
        "all levels, and an effect is the mean of their probabilities; what the draws leave open is in the interval.",
    ),
    (
        "Parts of the effect",
        "An effect can run directly, or through variables in between. Parts are told apart by letting some of these "
        "variables see the new level while others still see the reference (nested counterfactuals). The total effect "
        "is the direct, the illegitimate and the legitimate part together.",
    ),
    (
        "Repetitions",
        "Language models are sensitive to wording, and to which names stand for a level. So every sentence has several "
        "wordings, and levels and options may have several phrases. These are divided into groups that have nothing in "
        "common: each group is a repetition of the whole audit, with names and sentences of its own. An effect is the "
        "average over repetitions, and its interval (Student’s) says how far that average could move if others had "
        "chosen the names and worded the sentences. There are no more repetitions than the scarcest of what is drawn "
        "has wordings or phrases: with two names there are two, and the interval is wide, as two names tell little of "
        "others. What there is one of, or what the audit declares to be all there is, is the same in all repetitions: "
        "the results are for these.",
    ),
    (
        "What could be found",
        "An effect that is too small is not told from 0. “Could find” is the least effect that another audit like this "
        "one would tell from 0 (beyond the margin) in four of five cases, before the correction for many tests, given "
        "how much the repetitions differ here.",
    ),
    (
        "Many tests",
        "A model’s own effects are measured without noise, so that any trace of an effect would be found. Those that "
        "matter are beyond a margin (see the settings). p is how often the choice of names and wordings alone would "
        "give an average at least so far from 0 if the effect were as large as the margin. With many effects some p "
        "are small by luck. q corrects for that (Benjamini and Hochberg 1995): of the effects reported as discoveries, "
        "at most the stated share is expected to be wrong. This holds if the tests are independent or go together; for "
        "tests that may go against each other, as parts of one total can, the tables (effects.csv) have a q that holds "
        "in any case (q_any; Benjamini and Yekutieli 2001), and is larger. An effect that is another in other words, "
        "such as the direct effect where nothing lies between, is one test.",
    ),
    (
        "Proxies",
        "The ways in which the attribute is conveyed (a word, a pronoun, a first name) are audited one by one, as a "
        "model may react to one and not to another.",
    ),
)

LIMITS = (
    "The intervals contain what the names and the wordings vary that were drawn, and nothing else. They do not contain "
    "the choice of scoring (see the section on sensitivity), how the language model was trained, the choice of graph, "
    "of options or of proxies, nor what stands under “fixed”.",
    "The results are about a language model’s probabilities for these sentences. They say nothing about people, and "
    "a product built on the model, with {}, may act differently.",
    "The graph is a decision: it says which sentences the model is shown. Which variables are legitimate is a "
    "judgement of those who designed the audit, not a finding.",
    "Wordings and names were chosen by people, not drawn at random from all that there are. Intervals, p and q treat "
    "them as if they were a fair sample, and effects in repetitions as if they followed the normal distribution.",
    "An effect that is not shown may still be there: it may be smaller than what could be found, or wordings may pull "
    "in different directions.",
    "A proxy conveys more than the attribute. A first name may tell of age, class or origin as well.",
    "What would have happened to one person depends on how chance is shared between the two worlds, which nothing can "
    "tell from outside. Total and direct effects do not depend on it; the example pairs and the shares of changed "
    "outcomes do, and so do the other parts where a legitimate variable depends on one that is not legitimate.",
)


def method(chatting: tuple[str, ...], all_chat: bool) -> dict[str, str]:
    """How it was done; ``chatting``: the language models that were asked in a conversation.

    >>> method((), False)["Probabilities, not answers"][:46]
    'The audit does not chat with a language model.'
    """
    lead = NO_CHAT
    if chatting:
        who = "The language model was" if all_chat and len(chatting) == 1 else f"{listed(chatting)} {_were(chatting)}"
        rest = "" if all_chat else " The others read the sentences as they stand."
        lead = (
            f"{who} asked in a conversation: the user says the sentences that a variable may depend on, and the "
            "variable’s own sentence is the beginning of the assistant’s answer. The words of the system and of the "
            "user around them are a part of what was audited; they stand among the sentences that were asked, and no "
            f"interval contains what others would have changed. No answer is drawn.{rest} "
        )
    return {term: told.replace("{}", lead) for term, told in METHOD}


def _were(names: tuple[str, ...]) -> str:
    return "was" if len(names) == 1 else "were"


def limits(chatting: tuple[str, ...]) -> list[str]:
    """What no audit can do.

    >>> limits(("a",))[1].split(", with ")[1]
    'other instructions, filters or another chat format, may act differently.'
    """
    around = (
        "other instructions, filters or another chat format" if chatting else "instructions, filters or a chat format"
    )
    return [text.replace("{}", around) for text in LIMITS]


def told_of(known: Iterable[Registered], table: pd.DataFrame, column: str) -> dict[str, str]:
    """Meaning of the words that a column holds.

    Args:
        known: couplings or scorings.
        table: a table of an audit.
        column: of it.

    >>> from sdscm_jax.dsl.scoring.scorings.registry import SCORINGS
    >>> told_of(SCORINGS, pd.DataFrame({"scoring": ["option", "mine"]}), "scoring")
    {'option': 'probability of the option’s own words'}
    """
    return {} if table.empty else {str(one): one.says for one in known if (table[column] == one).any()}


VARIANCE = (
    "The variance of the effect on one unit (one person, one case), split by what it comes from: the wording of the "
    "sentences, the phrases for levels and options, and the units with their different backgrounds. A large share of "
    "wording means that a result from one wording should not be trusted."
)
SCORING = (
    "The first scoring is that of the other sections. All are of the same wordings; the difference from the first is "
    "taken wording by wording."
)
BOUNDS = (
    "No way of sharing chance gives less than the least or more than the greatest; where variables lie between, these "
    "need not be reached."
)
PAIRS = (
    "The same unit with the same luck at each level. Words that differ from the reference are in brackets. Each pair "
    "is of another wording, those first whose effect is nearest to the average; within it, of a unit whose outcome "
    "changes in the way that is most frequent: these are illustrations, not evidence, and not typical."
)
WITNESS = (
    "{} depends on {}, which is not legitimate and acts on {} otherwise, too. In the world that the unfair part is of, "
    "the one reads {} as it would be at the reference, the other as it is at the new level, and how the two share "
    "chance is nothing that the model’s probabilities tell (a recanting witness, Avin, Shpitser and Pearl 2005). So "
    "the illegitimate, the legitimate and the unfair part are no single numbers: {}."
)
ASKED = (
    "Verbatim, white space included. What stands in brackets is the list of options for the blank; the model was asked "
    "how probable it finds each. The sentence of what is varied is told, not asked. Where a sentence follows others, "
    "these are shown with the first option of each. Equal sentences of several wordings are listed once, with the "
    "numbers of wording and option wording."
)
CHATS = (
    "These language models read every sentence in a conversation, which is a part of what was audited: the words of "
    "the system and of the user, and what the chat template of the model writes around them, verbatim. In brackets "
    "stands what is put in: the sentences that the variable may depend on, and its own."
)
