"""What the selections do to the step: the claims of `shared.inpo.selection`, measured on a game of eight responses."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.inpo.selection import Method, Question, make_selection, replay
from tests.support.games import a_random_game, a_random_policy

Vector = NDArray[np.float64]
NUM, ETA, NUM_PROMPTS = 8, 0.3, 3000
GAME = a_random_game(NUM, 0.1, seed=41)
POLICY = 0.5 * a_random_policy(NUM, seed=42) + 0.5 / NUM


@cache
def step_of(method: Method) -> tuple[Vector, float]:
    """What the squared loss learns from binary answers: log(next / anchor), centred; and the share of prompts dropped.

    The minimiser of sum (D - 1 / (2 eta))^2 over the pairs (log-ratios over the anchor) solves a Laplacian system.
    """
    rng = np.random.default_rng(43)
    laplacian, pull, dropped = np.zeros((NUM, NUM)), np.zeros(NUM), 0
    for _ in range(NUM_PROMPTS):
        responses = rng.choice(NUM, size=8, p=POLICY)

        def answer(question: Question, responses: NDArray[np.int64] = responses) -> float:
            return float(rng.random() < GAME.preference[int(responses[question.a]), int(responses[question.b])])

        selected = replay(make_selection(method, num_responses=8, num_pairs=None, tied_final="drop", seed=0), answer)
        dropped += not selected.pairs
        for pair in selected.pairs:
            edge = np.zeros(NUM)
            edge[int(responses[pair.chosen])] += 1.0
            edge[int(responses[pair.rejected])] -= 1.0
            laplacian += np.outer(edge, edge)
            pull += edge * (pair.preference - 0.5) / ETA
    return np.linalg.pinv(laplacian, hermitian=True) @ pull, dropped / NUM_PROMPTS


def exact_step() -> Vector:
    step = GAME.win_rates(POLICY) / ETA
    return step - step.mean()


def inflation(method: Method) -> float:
    """How many exact steps the learnt one is, along the exact one."""
    step, _ = step_of(method)
    return float(step @ exact_step() / (exact_step() @ exact_step()))


@pytest.mark.parametrize("method", ["random_pairs", "all_pairs"])
def test_pairs_chosen_blindly_learn_the_exact_step(method: Method) -> None:
    """12,000 i.i.d. pairs, each +-1 / .6: a coordinate's standard error is about 1.7 / sqrt(12,000 / 8) = .04."""
    step, dropped = step_of(method)
    np.testing.assert_allclose(step, exact_step(), atol=0.2)
    assert inflation(method) == pytest.approx(1.0, abs=0.07)
    assert dropped == 0.0


@pytest.mark.parametrize("method", ["tournament", "best_worst"])
def test_pairs_of_extremes_learn_a_step_about_twice_as_large_in_the_same_direction(method: Method) -> None:
    """A response is paired because it won: both select on the outcome (published for a tournament: 1.9, .99)."""
    step, _ = step_of(method)
    assert 1.5 < inflation(method) < 3.0
    assert np.corrcoef(step, exact_step())[0, 1] > 0.95


def test_the_last_game_of_a_tournament_drops_a_good_part_of_the_prompts() -> None:
    """Published for another game: 31 %."""
    assert 0.2 < step_of("tournament")[1] < 0.6
