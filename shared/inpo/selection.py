"""From K responses and the oracle's answers to preference pairs.

A selection is a coroutine: it yields rounds of questions and is sent their answers in the same order, until it returns
what it `Selected`. Questions of one round do not depend on one another, so the selections of many prompts run in
lockstep, one batch a round; and because a selection only sees answers, its pairs can be replayed from stored verdicts.

An answer is P(a beats b), or a binary oracle's draw from it (1 or 0); None where nobody judged. Above 1/2 the first
response wins, below it the second; exactly 1/2 is a tie, which goes to the first-listed one.

Only `random_pairs` (and, with correlated pairs, `all_pairs`) draws its pairs as INPO's regression assumes (arXiv
2407.00617, Prop. 6). The paper's own experiments use the tournament, whose pairs are far apart by construction: on
exact games it learns a step two to three times as large, in the same direction, and so does `best_worst`.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, TypeAlias

from shared.inpo.seeds import seed_of, uniform_of

Method: TypeAlias = Literal["tournament", "best_worst", "random_pairs", "all_pairs"]
TiedFinal: TypeAlias = Literal["drop", "first"]
Answer: TypeAlias = float | None

UNJUDGED = "unjudged"
TIED_FINAL = "the last game of the tournament was a tie"
LOST_FINAL = "the champion of the tournament lost its last game"
EQUAL_MEANS = "all responses are preferred equally"


@dataclass(frozen=True, slots=True)
class Question:
    """Does response `a` beat response `b`? `draw` counts earlier questions about the same two, in either order.

    A binary oracle draws afresh for each `draw`.
    """

    a: int
    b: int
    draw: int = 0


@dataclass(frozen=True, slots=True)
class SelectedPair:
    """Indices of the pair's responses; `preference` is the answer to `question`, read as chosen against rejected.

    `win_rates` are the means of the chosen's and of the rejected's answers against all other responses, where the
    selection asks for them all: P(y ≻ pi_t) without bias, since no response is compared with itself (SPPO's code counts
    that as 1/2 in K, which shrinks the rates towards 1/2).
    """

    chosen: int
    rejected: int
    preference: float
    question: Question
    win_rates: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """What a selection kept, and a reason for each pair (or, for one pair a prompt, each prompt) that it dropped."""

    pairs: list[SelectedPair] = field(default_factory=list[SelectedPair])
    dropped: list[str] = field(default_factory=list[str])


Selection: TypeAlias = Generator[list[Question], Sequence[Answer], Selected]


def make_selection(
    method: Method, *, num_responses: int, num_pairs: int | None, tied_final: TiedFinal, seed: int
) -> Selection:
    """The selection of this name over responses 0 to `num_responses` - 1, before its first round.

    `num_pairs` and `seed` are read by `random_pairs`, `tied_final` by `tournament`. Bad numbers are a ValueError here,
    not in the first round.
    """
    match method:
        case "tournament":
            return tournament(num_responses, tied_final)
        case "best_worst":
            return best_worst(num_responses)
        case "random_pairs":
            return random_pairs(num_responses, num_pairs, seed)
        case "all_pairs":
            return all_pairs(num_responses)


def tournament(num_responses: int, tied_final: TiedFinal = "drop") -> Selection:
    """The paper's tournament: 3K/2 - 1 comparisons in log2(K) + 1 rounds (4 | 2+2 | 1+1 | 1 for K = 8).

    After the first round the winners meet and winners advance, the losers meet and losers advance; then the champion
    meets the bottom response. The pair is kept only if the champion wins again. `tied_final="first"` also keeps a tie,
    at preference 1/2. One unjudged game drops the prompt.
    """
    _check_num_responses(num_responses)
    if num_responses & (num_responses - 1):
        raise ValueError(f"a tournament needs num_responses to be a power of two, not {num_responses}")
    return _tournament(num_responses, tied_final)


def best_worst(num_responses: int) -> Selection:
    """The response with the highest mean answer against the others, paired with the lowest: K(K-1)/2 comparisons.

    Means are over the judged comparisons; equal means go to the first-listed response. The preference is the answer
    between the two, which under a non-transitive oracle can be below 1/2; its target is then negative.
    """
    _check_num_responses(num_responses)
    return _best_worst(num_responses)


def random_pairs(num_responses: int, num_pairs: int | None, seed: int) -> Selection:
    """Disjoint pairs, drawn without looking at the responses: i.i.d. pairs of the sampling policy, one question each.

    `num_pairs` defaults to K/2, rounded down. An unjudged comparison drops its pair only.
    """
    _check_num_responses(num_responses)
    num = num_responses // 2 if num_pairs is None else num_pairs
    if not 1 <= num <= num_responses // 2:
        raise ValueError(
            f"num_pairs must be between 1 and {num_responses // 2} for {num_responses} responses, not {num}"
        )
    order = sorted(range(num_responses), key=lambda index: seed_of("random_pairs", seed, index))
    return _one_round(list(zip(order[: 2 * num : 2], order[1 : 2 * num : 2], strict=True)))


def all_pairs(num_responses: int) -> Selection:
    """Every unordered pair, one question each: the same expected loss as `random_pairs`, over correlated pairs."""
    _check_num_responses(num_responses)
    return _one_round(list(combinations(range(num_responses), 2)), round_robin=True)


def draw_answer(probability: float, *seed_parts: str | int) -> float:
    """A binary oracle's answer: 1.0 with this probability, else 0.0 (INPO, Definition 1).

    The same parts draw the same answer on every machine. 1/2 is drawn like any other probability: a binary oracle
    knows no ties.
    """
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability must be in [0, 1], not {probability}")
    return 1.0 if uniform_of(*seed_parts) < probability else 0.0


def replay(selection: Selection, answers: Callable[[Question], Answer]) -> Selected:
    """Run a selection to its end, answering one question at a time."""
    try:
        questions = next(selection)
        while True:
            questions = selection.send([answers(question) for question in questions])
    except StopIteration as stop:
        selected: Selected = stop.value
        return selected


class _Interview:
    """Numbers the questions of one selection and checks the answers that it is sent."""

    def __init__(self) -> None:
        self._asked: dict[frozenset[int], int] = {}

    def ask(
        self, games: Sequence[tuple[int, int]]
    ) -> Generator[list[Question], Sequence[Answer], list[tuple[Question, Answer]]]:
        questions = [self._question(a, b) for a, b in games]
        answers = yield questions
        if len(answers) != len(questions):
            raise ValueError(f"{len(questions)} questions were answered by {len(answers)} answers")
        for question, answer in zip(questions, answers, strict=True):
            if answer is not None and not 0.0 <= answer <= 1.0:
                raise ValueError(f"the answer to {question} must be in [0, 1] or None, not {answer}")
        return list(zip(questions, answers, strict=True))

    def _question(self, a: int, b: int) -> Question:
        draw = self._asked.get(frozenset((a, b)), 0)
        self._asked[frozenset((a, b))] = draw + 1
        return Question(a, b, draw)


def _tournament(num_responses: int, tied_final: TiedFinal) -> Selection:
    interview = _Interview()
    winners, losers = list(range(num_responses)), list[int]()
    while len(winners) > 1:
        upper, lower = _games(winners), _games(losers)
        results = yield from interview.ask(upper + lower)
        if any(answer is None for _, answer in results):
            return Selected(dropped=[UNJUDGED])
        ranked = [_winner_and_loser(question, answer or 0.0) for question, answer in results]
        winners = [winner for winner, _ in ranked[: len(upper)]]
        # The first round fills the losers' bracket with its losers; from then on the bracket's own losers advance.
        losers = [loser for _, loser in (ranked[len(upper) :] if lower else ranked)]
    [(final, answer)] = yield from interview.ask([(winners[0], losers[0])])
    if answer is None:
        return Selected(dropped=[UNJUDGED])
    if answer < 0.5:
        return Selected(dropped=[LOST_FINAL])
    if answer == 0.5 and tied_final == "drop":
        return Selected(dropped=[TIED_FINAL])
    return Selected([SelectedPair(final.a, final.b, answer, final)])


def _best_worst(num_responses: int) -> Selection:
    results = yield from _Interview().ask(list(combinations(range(num_responses), 2)))
    means = _win_rates(results)
    if not means:
        return Selected(dropped=[UNJUDGED])
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    if math.isclose(means[best], means[worst], rel_tol=0.0, abs_tol=1e-12):
        return Selected(dropped=[EQUAL_MEANS])
    question, answer = next(result for result in results if {result[0].a, result[0].b} == {best, worst})
    if answer is None:
        return Selected(dropped=[UNJUDGED])
    preference = answer if question.a == best else 1.0 - answer
    return Selected([SelectedPair(best, worst, preference, question, (means[best], means[worst]))])


def _one_round(games: list[tuple[int, int]], *, round_robin: bool = False) -> Selection:
    results = yield from _Interview().ask(games)
    means = _win_rates(results)
    selected = Selected()
    for question, answer in results:
        if answer is None:
            selected.dropped.append(UNJUDGED)
        else:
            chosen, rejected = _winner_and_loser(question, answer)
            rates = (means[chosen], means[rejected]) if round_robin else None
            selected.pairs.append(SelectedPair(chosen, rejected, max(answer, 1.0 - answer), question, rates))
    return selected


def _win_rates(results: Sequence[tuple[Question, Answer]]) -> dict[int, float]:
    """The mean answer of every response that was judged at least once."""
    scores: dict[int, list[float]] = {}
    for question, answer in results:
        if answer is not None:
            scores.setdefault(question.a, []).append(answer)
            scores.setdefault(question.b, []).append(1.0 - answer)
    return {index: math.fsum(scores[index]) / len(scores[index]) for index in sorted(scores)}


def _games(players: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(players[::2], players[1::2], strict=True))


def _winner_and_loser(question: Question, answer: float) -> tuple[int, int]:
    return (question.a, question.b) if answer >= 0.5 else (question.b, question.a)


def _check_num_responses(num_responses: int) -> None:
    if num_responses < 2:
        raise ValueError(f"num_responses must be at least 2 to make a pair, not {num_responses}")
