"""Cases: which run they are, and what decides their key."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from proof.__main__ import EXPERIMENTS
from proof.cases import Case, inpo
from proof.experiments import cost, demo_game, exact, selection
from proof.games import DEMO, SYMMETRIC, Readers, Rewards
from shared.inpo.algorithms import ALGORITHMS


def test_every_algorithm_is_proven_exactly_and_with_a_language_model() -> None:
    assert {algorithm["name"] for algorithm in exact.ALGORITHMS} == set(ALGORITHMS)
    assert {case.algorithm["name"] for case in demo_game.cases([0])} == set(ALGORITHMS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_of_an_experiment_has_a_specification(name: str) -> None:
    """`RunSpec` refuses what does not fit; the game's tau is the run's where the algorithm has one."""
    for case in EXPERIMENTS[name].cases([0, 1]):
        spec = case.spec(Path("/model"), Path("/prompts"))
        assert spec.iterations == case.iterations
        assert spec.seed == case.seed
        assert spec.algorithm.tau in (0.0, case.game.tau)


def test_a_key_changes_with_whatever_decides_the_outcome() -> None:
    """Algorithm, game, judge, seed, iterations and changes do; an equal case has the same key."""
    case = Case(DEMO, inpo(DEMO))
    others = [
        Case(DEMO, inpo(DEMO, 0.6)),
        Case(SYMMETRIC, inpo(DEMO)),
        replace(case, judge=Readers(1.0, 1.0, 1.0)),
        replace(case, seed=1),
        replace(case, iterations=3),
        replace(case, changes={"training": {"num_epochs": 1}}),
    ]
    assert len({case.key, *(other.key for other in others)}) == 1 + len(others)
    assert case.key == Case(DEMO, inpo(DEMO)).key


def test_both_selections_cost_the_same_comparisons() -> None:
    """A tournament of 8 asks 3 · 8 / 2 - 1 = 11, and 11 random pairs are 11."""
    specs = [case.spec(Path("/model"), Path("/prompts")) for case in selection.cases([0])]
    assert [spec.selection.num_pairs or 3 * spec.sampling.num_responses // 2 - 1 for spec in specs] == [11, 11, 11]


def test_the_cost_is_measured_for_each_size_by_both_methods() -> None:
    specs = [case.spec(Path("/model"), Path("/prompts")) for case in cost.cases([0])]
    assert [spec.sampling.num_responses for spec in specs[::2]] == list(cost.SIZES)
    assert {spec.selection.method for spec in specs[1::2]} == {"best_worst"}


def test_mistaken_readers_keep_their_opinions_and_lose_strength() -> None:
    """(1 - 2 · 0.2) · 0.95 + 0.2 = 0.77, and so for all; the matrix's distance to 1/2 shrinks by 0.6."""
    readers = Readers(0.95, 0.9, 0.8)
    mistaken = readers.mistaken(0.2)
    assert mistaken.first_over_second == pytest.approx(0.77)
    assert mistaken.matrix() - 0.5 == pytest.approx(0.6 * (readers.matrix() - 0.5))


def test_a_reward_fitted_to_rewards_is_that_reward() -> None:
    """Preferences of a Bradley-Terry population give back its rewards, but for their level under the policy."""
    rewards = Rewards((-1.0, 0.5, 0.0, 0.25))
    fitted = Rewards.fitted(rewards.matrix(), np.array([0.01, 0.5, 0.3, 0.19])).rewards
    assert [value - fitted[2] for value in fitted] == pytest.approx(rewards.rewards, abs=1e-5)
