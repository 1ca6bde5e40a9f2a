"""From K responses to preference pairs: every selection, and what all of them promise."""

import math
from collections.abc import Callable, Sequence
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.inpo.selection import (
    EQUAL_MEANS,
    LOST_FINAL,
    TIED_FINAL,
    UNJUDGED,
    Answer,
    Method,
    Question,
    Selected,
    SelectedPair,
    Selection,
    all_pairs,
    best_worst,
    draw_answer,
    make_selection,
    random_pairs,
    replay,
    tournament,
)

Oracle = Callable[[Question], Answer]
# The machine may be slow, and the same examples must be tried everywhere.
steady = settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
ANSWERS = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.0, 1.0))


def by_strength(strengths: Sequence[float]) -> Oracle:
    """The stronger response always wins; equals tie."""

    def answer(question: Question) -> Answer:
        return 0.5 + 0.5 * math.copysign(1.0, strengths[question.a] - strengths[question.b]) * (
            strengths[question.a] != strengths[question.b]
        )

    return answer


def rounds_of(selection: Selection, oracle: Oracle) -> tuple[list[list[Question]], Selected]:
    """The rounds of questions as a worker sees them, and the result."""
    rounds: list[list[Question]] = []
    questions = next(selection)
    while True:
        rounds.append(questions)
        try:
            questions = selection.send([oracle(question) for question in questions])
        except StopIteration as stop:
            return rounds, stop.value


def pairs_of(selected: Selected) -> list[tuple[int, int]]:
    return [(pair.chosen, pair.rejected) for pair in selected.pairs]


@pytest.mark.parametrize(("num", "sizes"), [(8, [4, 4, 2, 1]), (4, [2, 2, 1]), (2, [1, 1]), (16, [8, 8, 4, 2, 1])])
def test_a_tournament_asks_three_half_k_less_one_questions_in_few_rounds(num: int, sizes: list[int]) -> None:
    """K/2 games, then the two brackets halve together, then the last game: 11 for K = 8 (INPO, section 4.1)."""
    rounds, _ = rounds_of(tournament(num), by_strength(range(num)))
    assert [len(questions) for questions in rounds] == sizes
    assert sum(sizes) == 3 * num // 2 - 1


def test_a_tournament_among_ranked_responses_finds_the_best_and_the_worst() -> None:
    selected = replay(tournament(8), by_strength([3, 7, 5, 1, 8, 2, 6, 4]))
    assert pairs_of(selected) == [(4, 3)]
    assert selected.pairs[0].preference == 1.0


def test_in_the_losers_bracket_the_loser_advances() -> None:
    """Strengths 1 0 | 3 2 | 5 4 | 7 6: losers 1 3 5 7 play (1, 3) and (5, 7), and 1 then meets 5."""
    rounds, _ = rounds_of(tournament(8), by_strength([1, 0, 3, 2, 5, 4, 7, 6]))
    asked = [[(question.a, question.b) for question in questions] for questions in rounds]
    assert asked == [
        [(0, 1), (2, 3), (4, 5), (6, 7)],
        [(0, 2), (4, 6), (1, 3), (5, 7)],
        [(2, 6), (1, 5)],
        [(6, 1)],
    ]


def test_ties_go_to_the_first_listed_response() -> None:
    """All tie: 0 is champion, and of the first losers 1 3 5 7 the second-listed lose: 3 7, then 7."""
    rounds, selected = rounds_of(tournament(8, "first"), lambda _: 0.5)
    assert rounds[-1] == [Question(0, 7, 0)]
    assert selected.pairs == [SelectedPair(0, 7, 0.5, Question(0, 7, 0))]


def test_a_tied_last_game_is_dropped_by_default() -> None:
    assert replay(tournament(8), lambda _: 0.5) == Selected([], [TIED_FINAL])


def test_a_champion_that_loses_the_last_game_is_dropped() -> None:
    """K = 2 asks the same pair twice; the second draw goes the other way."""
    selected = replay(tournament(2), lambda question: 1.0 if question.draw == 0 else 0.0)
    assert selected == Selected([], [LOST_FINAL])


def test_asking_the_same_pair_again_is_another_draw_in_either_order() -> None:
    """0 loses to 1 and both come back in the last game as (1, 0): a binary oracle must draw again."""
    rounds, _ = rounds_of(tournament(2), lambda _: 0.0)
    assert rounds == [[Question(0, 1, 0)], [Question(1, 0, 1)]]


@pytest.mark.parametrize("silent", [Question(0, 1), Question(4, 6), Question(6, 1)])
def test_one_unjudged_game_drops_the_tournaments_prompt(silent: Question) -> None:
    """In the first round, in a bracket and in the last game of the schedule above."""
    judged = by_strength([1, 0, 3, 2, 5, 4, 7, 6])
    selected = replay(tournament(8), lambda question: None if question == silent else judged(question))
    assert selected == Selected([], [UNJUDGED])


def test_best_worst_ranks_by_mean_answer() -> None:
    """P(0>1) = .9, P(0>2) = .4, P(1>2) = .3: means (.9+.4)/2 = .65, (.1+.3)/2 = .2, (.6+.7)/2 = .65.

    0 and 2 share the highest mean, the first-listed is taken; 1 is the lowest. Their answer is .9.
    """
    answers = {(0, 1): 0.9, (0, 2): 0.4, (1, 2): 0.3}
    selected = replay(best_worst(3), lambda question: answers[question.a, question.b])
    assert selected.pairs == [SelectedPair(0, 1, 0.9, Question(0, 1, 0), ((0.9 + 0.4) / 2, (1.0 - 0.9 + 0.3) / 2))]


def test_best_worst_reads_the_answer_as_chosen_against_rejected() -> None:
    selected = replay(best_worst(2), lambda _: 0.2)
    assert selected.pairs == [SelectedPair(1, 0, 0.8, Question(0, 1, 0), (0.8, 0.2))]


def test_best_worst_keeps_a_preference_below_one_half() -> None:
    """0 beats 1 and 2 (.9) but loses to 3 (.4); 1 beats 2 and 3 (.6); 2 beats 3 (1).

    Means: 0: 2.2/3, 1: 1.3/3, 2: 1.5/3, 3: 1/3. Best 0, worst 3, and P(0 > 3) = .4.
    """
    answers = {(0, 1): 0.9, (0, 2): 0.9, (0, 3): 0.4, (1, 2): 0.6, (1, 3): 0.6, (2, 3): 1.0}
    selected = replay(best_worst(4), lambda question: answers[question.a, question.b])
    assert selected.pairs == [SelectedPair(0, 3, 0.4, Question(0, 3, 0), (2.2 / 3, 1 / 3))]


def test_all_pairs_carry_the_win_rates_of_both_over_what_was_judged() -> None:
    """P(0>1) = .75, P(1>2) = 1, (0, 2) unjudged: 0 wins .75, 1 wins (.25 + 1)/2 = .625, 2 wins 0."""
    answers = {(0, 1): 0.75, (0, 2): None, (1, 2): 1.0}
    selected = replay(all_pairs(3), lambda question: answers[question.a, question.b])
    assert [pair.win_rates for pair in selected.pairs] == [(0.75, 0.625), (0.625, 0.0)]
    assert selected.dropped == [UNJUDGED]


def test_pairs_that_were_not_compared_with_all_others_carry_no_win_rates() -> None:
    for selection in (tournament(4), random_pairs(4, None, 0)):
        assert all(pair.win_rates is None for pair in replay(selection, by_strength([3, 1, 2, 0])).pairs)


def test_best_worst_drops_a_prompt_whose_responses_are_equally_preferred() -> None:
    """A cycle of thirds and ties alike: every mean is 1/2."""
    assert replay(best_worst(4), lambda _: 0.5) == Selected([], [EQUAL_MEANS])
    cycle = {(0, 1): 0.9, (0, 2): 0.1, (1, 2): 0.9}
    assert replay(best_worst(3), lambda question: cycle[question.a, question.b]).dropped == [EQUAL_MEANS]


def test_best_worst_ranks_those_that_were_judged() -> None:
    """Response 3 was never judged (too long for the judge): the others are ranked without it."""
    judged = by_strength([2, 1, 3, 9])
    selected = replay(best_worst(4), lambda question: None if question.b == 3 else judged(question))
    assert pairs_of(selected) == [(2, 1)]


@pytest.mark.parametrize("silent", [{(0, 2)}, {(0, 1), (0, 2), (1, 2)}])
def test_best_worst_drops_what_it_cannot_judge(silent: set[tuple[int, int]]) -> None:
    """The comparison of best (2) and worst (0) is missing, or all are."""
    judged = by_strength([0, 1, 2])
    selected = replay(best_worst(3), lambda question: None if (question.a, question.b) in silent else judged(question))
    assert selected == Selected([], [UNJUDGED])


def test_random_pairs_names_the_winner_chosen() -> None:
    """An answer of .3 for the first is .7 for the second; the question stays as it was asked."""
    [pair] = replay(random_pairs(2, None, 0), lambda _: 0.3).pairs
    assert (pair.chosen, pair.rejected, pair.preference) == (pair.question.b, pair.question.a, 0.7)


def test_random_pairs_keeps_a_tie_at_one_half_first_listed() -> None:
    """A tie is information too: its target is 0."""
    [pair] = replay(random_pairs(2, None, 0), lambda _: 0.5).pairs
    assert (pair.chosen, pair.rejected, pair.preference) == (pair.question.a, pair.question.b, 0.5)


def test_an_unjudged_comparison_drops_only_its_pair() -> None:
    selected = replay(all_pairs(3), lambda question: None if question.a == 0 and question.b == 1 else 1.0)
    assert pairs_of(selected) == [(0, 2), (1, 2)]
    assert selected.dropped == [UNJUDGED]


def test_random_pairs_depend_on_the_seed_only_and_differ_between_seeds() -> None:
    """8 responses have 8!/2^4 ordered pairings a prompt: 20 seeds that all agree would be no draw."""
    pairings = [rounds_of(random_pairs(8, None, seed), lambda _: 1.0)[0] for seed in range(20)]
    again = [rounds_of(random_pairs(8, None, seed), lambda _: 1.0)[0] for seed in range(20)]
    assert pairings == again
    assert len({str(pairing) for pairing in pairings}) == 20


def test_random_pairs_draws_every_response_equally_often() -> None:
    """One pair of 4 responses takes each with probability 1/2: 2,000 seeds, standard deviation 22."""
    counts = [0, 0, 0, 0]
    for seed in range(2000):
        [[question]], _ = rounds_of(random_pairs(4, 1, seed), lambda _: 1.0)
        counts[question.a] += 1
        counts[question.b] += 1
    assert all(abs(count - 1000) < 110 for count in counts)


def test_an_odd_number_of_responses_leaves_one_out() -> None:
    assert len(replay(random_pairs(5, None, 3), lambda _: 1.0).pairs) == 2


@pytest.mark.parametrize("num", [3, 6, 12])
def test_a_tournament_refuses_a_number_that_is_no_power_of_two(num: int) -> None:
    with pytest.raises(ValueError, match=f"num_responses to be a power of two, not {num}"):
        tournament(num)


@pytest.mark.parametrize("method", get_args(Method))
def test_one_response_makes_no_pair(method: Method) -> None:
    with pytest.raises(ValueError, match="num_responses must be at least 2"):
        make_selection(method, num_responses=1, num_pairs=None, tied_final="drop", seed=0)


@pytest.mark.parametrize("num_pairs", [0, 3])
def test_more_disjoint_pairs_than_there_are_responses_for_are_refused(num_pairs: int) -> None:
    with pytest.raises(ValueError, match="num_pairs must be between 1 and 2 for 4 responses"):
        random_pairs(4, num_pairs, 0)


@pytest.mark.parametrize("answer", [-0.1, 1.1, math.nan])
def test_an_answer_outside_zero_to_one_is_refused(answer: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\] or None"):
        replay(all_pairs(2), lambda _: answer)


def test_a_round_answered_by_the_wrong_number_of_answers_is_refused() -> None:
    selection = all_pairs(3)
    next(selection)
    with pytest.raises(ValueError, match="3 questions were answered by 2 answers"):
        selection.send([1.0, 1.0])


def test_a_draw_follows_its_probability() -> None:
    """10,000 draws at .3: standard deviation .0046."""
    draws = [draw_answer(0.3, "prompt", number) for number in range(10_000)]
    assert set(draws) == {0.0, 1.0}
    assert sum(draws) / len(draws) == pytest.approx(0.3, abs=0.02)


def test_a_draw_is_the_same_for_the_same_parts() -> None:
    assert [draw_answer(0.5, 7, "p", n) for n in range(50)] == [draw_answer(0.5, 7, "p", n) for n in range(50)]


def test_certain_answers_are_always_drawn() -> None:
    assert {draw_answer(1.0, n) for n in range(200)} == {1.0}
    assert {draw_answer(0.0, n) for n in range(200)} == {0.0}


@pytest.mark.parametrize("probability", [-0.01, 1.01, math.nan])
def test_a_draw_from_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=r"probability must be in \[0, 1\]"):
        draw_answer(probability, 1)


def a_selection(method: Method, log_num: int, seed: int) -> tuple[Selection, int]:
    num = 2**log_num
    return make_selection(method, num_responses=num, num_pairs=None, tied_final="drop", seed=seed), num


SELECTIONS = {"method": st.sampled_from(get_args(Method)), "log_num": st.integers(1, 4), "seed": st.integers(0, 2**31)}


@steady
@given(**SELECTIONS, data=st.data())
def test_whatever_the_oracle_answers_questions_and_pairs_are_sound(
    method: Method, log_num: int, seed: int, data: st.DataObject
) -> None:
    """Questions compare two different responses that exist and are never asked twice.

    A pair holds what its question compared, its preference is that question's answer, and a prompt that gives no pair
    gives a reason.
    """
    selection, num = a_selection(method, log_num, seed)
    answers: dict[Question, Answer] = {}

    def answer(question: Question) -> Answer:
        assert question not in answers
        assert question.a != question.b
        assert {question.a, question.b} <= set(range(num))
        answers[question] = data.draw(ANSWERS)
        return answers[question]

    selected = replay(selection, answer)
    for pair in selected.pairs:
        given_answer = answers[pair.question]
        assert given_answer is not None
        assert {pair.chosen, pair.rejected} == {pair.question.a, pair.question.b}
        assert pair.preference == (given_answer if pair.chosen == pair.question.a else 1.0 - given_answer)
        assert pair.preference >= 0.5 or method == "best_worst"
    assert selected.pairs or selected.dropped


@steady
@given(**SELECTIONS, data=st.data())
def test_replaying_stored_answers_gives_the_same_pairs(
    method: Method, log_num: int, seed: int, data: st.DataObject
) -> None:
    """A live run in rounds, and a replay from what it stored."""
    stored: dict[Question, Answer] = {}
    live, _ = a_selection(method, log_num, seed)
    _, selected = rounds_of(live, lambda question: stored.setdefault(question, data.draw(ANSWERS)))
    again, _ = a_selection(method, log_num, seed)
    assert replay(again, stored.__getitem__) == selected


@steady
@given(num=st.integers(2, 20), seed=st.integers(0, 2**63 - 1), data=st.data())
def test_random_pairs_are_disjoint(num: int, seed: int, data: st.DataObject) -> None:
    num_pairs = data.draw(st.integers(1, num // 2))
    selected = replay(random_pairs(num, num_pairs, seed), lambda _: 1.0)
    used = [index for pair in selected.pairs for index in (pair.chosen, pair.rejected)]
    assert len(selected.pairs) == num_pairs
    assert len(set(used)) == 2 * num_pairs
