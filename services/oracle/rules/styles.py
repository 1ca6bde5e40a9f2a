"""The demo's readers: a population whose majority is cyclic over three styles of answer, so that no reward explains it.

The language is tiny and closed. A question asks for one of the topics; a style answers it by one sentence with one of
the topic's adjectives. Everything else is invalid: cut, mixed, empty, or about another topic.
"""

import math
from collections.abc import Mapping, Sequence

from services.oracle.judges.rules import Rule
from shared.contracts.records import Message

INVALID = 0
STYLE_NAMES: tuple[str, ...] = ("invalid", "plain", "poetic", "pirate")

_TEMPLATES: Mapping[int, str] = {
    1: "The {topic} is a {adjective} {noun}.",
    2: "O {adjective} {topic}, sweet {noun} of my dreams!",
    3: "Arr, matey, the {topic} be a {adjective} {noun}!",
}

# A topic is a `noun` to this language, with adjectives to choose from; none begins with a vowel, so "a" always fits.
TOPICS: Mapping[str, tuple[str, tuple[str, str, str]]] = {
    "sun": ("star", ("bright", "warm", "golden")),
    "moon": ("lamp", ("pale", "silver", "round")),
    "sea": ("mirror", ("deep", "blue", "salty")),
    "river": ("road", ("long", "cold", "winding")),
    "forest": ("hall", ("green", "dark", "leafy")),
    "mountain": ("tower", ("tall", "white", "stony")),
    "storm": ("drum", ("loud", "grey", "wild")),
    "winter": ("guest", ("frosty", "slow", "strict")),
    "ship": ("horse", ("wooden", "proud", "swift")),
    "island": ("jewel", ("small", "sandy", "lonely")),
    "whale": ("giant", ("huge", "gentle", "singing")),
    "owl": ("hunter", ("wise", "silent", "feathered")),
    "rose": ("flower", ("red", "soft", "thorny")),
    "bridge": ("path", ("narrow", "high", "steady")),
    "clock": ("heart", ("ticking", "brass", "patient")),
    "lantern": ("flame", ("little", "yellow", "flickering")),
}


def question(topic: str) -> str:
    """The prompt that asks for a topic."""
    return f"What is the {topic}?"


def answers(topic: str, style: int) -> list[str]:
    """Every well-formed answer for the topic in one style (1, 2 or 3)."""
    noun, adjectives = TOPICS[topic]
    return [_TEMPLATES[style].format(topic=topic, adjective=adjective, noun=noun) for adjective in adjectives]


def style_of(prompt: str, response: str) -> int:
    """1, 2 or 3 when the whole response is a well-formed answer to this prompt in that style; 0 for anything else."""
    return _STYLES.get((prompt.strip(), response.strip()), INVALID)


def preference_matrix(
    first_over_second: float = 0.95,
    second_over_third: float = 0.9,
    third_over_first: float = 0.8,
    any_over_invalid: float = 0.95,
) -> list[list[float]]:
    """`matrix[a][b]` = P(a beats b) for a, b as `style_of` counts them: invalid first, then the three styles.

    Antisymmetric: matrix[a][b] + matrix[b][a] = 1. The defaults are the demo's. `ValueError` names a parameter that is
    no probability.
    """
    wins = {
        (1, 2): first_over_second,
        (2, 3): second_over_third,
        (3, 1): third_over_first,
        **{(style, INVALID): any_over_invalid for style in (1, 2, 3)},
    }
    for pair, probability in wins.items():
        if not 0.0 <= probability <= 1.0:
            raise ValueError(
                f"P({STYLE_NAMES[pair[0]]} beats {STYLE_NAMES[pair[1]]}) must lie in [0, 1], not {probability}"
            )
    matrix = [[0.5] * len(STYLE_NAMES) for _ in STYLE_NAMES]
    for (winner, loser), probability in wins.items():
        matrix[winner][loser] = probability
        matrix[loser][winner] = 1.0 - probability
    return matrix


def cyclic_panel(
    first_over_second: float = 0.95,
    second_over_third: float = 0.9,
    third_over_first: float = 0.8,
    any_over_invalid: float = 0.95,
) -> Rule:
    """The share of the readers that prefer the first response: a function of the two responses' styles only.

    The prompt is what the user asked last.
    """
    matrix = preference_matrix(first_over_second, second_over_third, third_over_first, any_over_invalid)

    def rule(prompt: Sequence[Message], first: str, second: str) -> float:
        asked = prompt[-1].content
        return matrix[style_of(asked, first)][style_of(asked, second)]

    return rule


def reward_panel(invalid: float, plain: float, poetic: float, pirate: float) -> Rule:
    """Readers who only have a reward for each style: P(first beats second) = sigma(r_first - r_second)."""
    rewards = (invalid, plain, poetic, pirate)

    def rule(prompt: Sequence[Message], first: str, second: str) -> float:
        asked = prompt[-1].content
        return 1.0 / (1.0 + math.exp(rewards[style_of(asked, second)] - rewards[style_of(asked, first)]))

    return rule


_STYLES: Mapping[tuple[str, str], int] = {
    (question(topic), answer): style for topic in TOPICS for style in _TEMPLATES for answer in answers(topic, style)
}
