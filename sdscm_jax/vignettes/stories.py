"""Two stories of the same five sentences: weather as a confounder and weather as a collider."""

from __future__ import annotations

from .scm import Variable, Vignette

_NAMES = ("John", "Jane", "Alice", "Bob", "Charlie")
_WEATHER = ("sunny", "rainy", "snowy", "cold", "hot")
_MARATHON = ("improve", "worsen")
_GYM = ("to the gym", "for a run outside")

_WEATHER_WORDINGS = (
    "The weather outside is {}.",
    "Today the weather outside is {}.",
    "Outside my window, the weather is {}.",
    "The weather here today is {}.",
    "I see that the weather is {}.",
    "This morning the weather is {}.",
    "The news says the weather is {}.",
    "When I look out, the weather is {}.",
    "It seems that the weather is {}.",
    "The weather for the day is {}.",
)
_MARATHON_WORDINGS = (
    "After this, my marathon time will {}.",
    "I think my marathon time will {}.",
    "My best time in the marathon will {}.",
    "In the next marathon, my time will {}.",
    "My personal best in the marathon will {}.",
    "By next year, my marathon time will {}.",
    "I can tell my marathon time will {}.",
    "Soon my time in the marathon will {}.",
    "From now on, my marathon time will {}.",
    "I know that my marathon time will {}.",
)
_GYM_WORDINGS = (
    "I owe it to myself to go {}.",
    "Today I owe it to myself to go {}.",
    "I really owe it to myself to go {}.",
    "This morning I owe it to myself to go {}.",
    "I promised myself that I would go {}.",
    "I tell myself that I must go {}.",
    "For my own good, I will go {}.",
    "To stay fit, I should go {}.",
    "To train today, I have to go {}.",
    "For my training, I need to go {}.",
)

_NAME1 = Variable(
    "name1",
    _NAMES,
    (
        "My name is {}.",
        "Hello, my own name is {}.",
        "The name that I go by is {}.",
        "I am a runner and my name is {}.",
        "People who know me call me {}.",
        "My parents gave me the name {}.",
        "At home they call me {}.",
        "I was given the name {} at birth.",
        "You can just call me {}.",
        "This is my story and I am {}.",
    ),
    base=(0.0, 0.0, 0.0, 0.0, 0.0),
    exogenous=True,
)

_NAME2 = Variable(
    "name2",
    _NAMES,
    (
        "I have a friend named {}.",
        "The name of my friend is {}.",
        "My best friend is called {}.",
        "I have a good friend called {}.",
        "A friend of mine is named {}.",
        "My friend goes by the name {}.",
        "I train with a friend named {}.",
        "One of my friends is called {}.",
        "I often meet my friend {} to talk.",
        "My old friend from school is {}.",
    ),
    base=(0.0, 0.0, 0.0, 0.0, 0.0),
    exogenous=True,
)

# Both stories use these two tables: who the narrator is, and who trains with the narrator.
_GYM_BY_NAME1 = {
    "John": (0.7, 0.0),  # John likes to lift weights
    "Jane": (-0.4, 0.0),  # Jane likes the open air
    "Alice": (0.3, 0.0),  # Alice has friends at the gym
    "Bob": (-0.7, 0.0),  # Bob does not like to pay for a gym
    "Charlie": (-0.1, 0.0),  # Charlie is happy with both
}
_MARATHON_BY_NAME2 = {
    "John": (-0.4, 0.0),  # John keeps the narrator out late
    "Jane": (0.7, 0.0),  # Jane is a fast runner and a good example
    "Alice": (0.2, 0.0),  # Alice gives good advice
    "Bob": (-0.7, 0.0),  # Bob brings sweets
    "Charlie": (0.4, 0.0),  # Charlie runs along now and then
}

confounder = Vignette(
    "confounder",
    (
        _NAME1,
        _NAME2,
        Variable(
            "weather",
            _WEATHER,
            _WEATHER_WORDINGS,
            base=(0.3, 0.2, -0.2, 0.0, -0.1),  # sun and rain are common, snow is not
        ),
        Variable(
            "gym",
            _GYM,
            _GYM_WORDINGS,
            base=(0.0, 0.0),
            effects={
                "weather": {
                    "sunny": (-1.2, 0.0),  # a sunny day calls one outside
                    "rainy": (0.8, 0.0),  # nobody likes to get wet
                    "snowy": (1.2, 0.0),  # the paths are slippery
                    "cold": (0.2, 0.0),  # cold air keeps some inside
                    "hot": (0.5, 0.0),  # the gym is cool
                },
                "name1": _GYM_BY_NAME1,
            },
        ),
        Variable(
            "marathon",
            _MARATHON,
            _MARATHON_WORDINGS,
            base=(0.0, 0.0),
            effects={
                "weather": {
                    "sunny": (1.1, 0.0),  # good light and dry ground
                    "rainy": (-0.6, 0.0),  # wet shoes are slow
                    "snowy": (-1.1, 0.0),  # snow is slower still
                    "cold": (0.4, 0.0),  # cool runners do not tire
                    "hot": (-0.8, 0.0),  # heat tires runners
                },
                "name2": _MARATHON_BY_NAME2,
            },
        ),
    ),
    treatment="gym",
    outcome="marathon",
    given_all=False,
)

collider = Vignette(
    "collider",
    (
        _NAME1,
        _NAME2,
        Variable(
            "gym",
            _GYM,
            _GYM_WORDINGS,
            base=(0.0, 0.0),
            effects={"name1": _GYM_BY_NAME1},
        ),
        Variable(
            "marathon",
            _MARATHON,
            _MARATHON_WORDINGS,
            base=(0.1, 0.0),
            effects={"name2": _MARATHON_BY_NAME2},
        ),
        Variable(
            "weather",
            _WEATHER,
            _WEATHER_WORDINGS,
            base=(0.1, 0.1, -0.1, 0.0, 0.0),
            effects={
                "gym": {
                    "to the gym": (-0.6, 0.5, 0.5, 0.1, 0.2),  # a gym day is told as a bad day
                    "for a run outside": (0.7, -0.5, -0.4, 0.1, -0.1),  # a run, as a fine day
                },
                "marathon": {
                    "improve": (0.6, -0.3, -0.4, 0.3, -0.3),  # good times are told with sun
                    "worsen": (-0.6, 0.4, 0.5, -0.2, 0.4),  # bad times with rain, snow, heat
                },
            },
        ),
    ),
    treatment="gym",
    outcome="marathon",
    given_all=False,
)
