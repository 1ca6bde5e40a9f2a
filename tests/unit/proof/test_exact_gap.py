"""The exact gap that the estimates are held against, by the finite game over whole responses."""

import math
from dataclasses import replace

import numpy as np
import pytest

from proof.demo_policies import Responses
from proof.gap_coverage import NUM_BLOCKS, exact_gap
from services.oracle.rules import styles
from shared.inpo.games import FiniteGame, Vector

TAU = 0.1
TOPIC = "sun"
UNLISTED = ["", "The sun?", styles.answers(TOPIC, 2)[0]]
STYLES = [1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 0, 2]


def responses(policy: Vector, reference: Vector) -> Responses:
    """A sample with exactly the policy's shares, in every block: of 1,000 responses as many as its probabilities say.

    The policies are over the nine answers and the three of `UNLISTED`. Log-ratios of the answers are nonsense, which
    nobody reads.
    """
    counts = np.round(1000 * policy[9:]).astype(np.int64)
    pattern = np.concatenate([np.zeros(1000 - counts.sum(), np.int64), np.repeat([1, 2, 3], counts)])
    which = np.repeat(pattern, NUM_BLOCKS)
    log_ratios = np.concatenate([[7.0], np.log(policy[9:] / reference[9:])])
    return Responses(
        question=styles.question(TOPIC),
        texts=[styles.answers(TOPIC, 1)[0], *UNLISTED],
        which=which,
        log_ratios=log_ratios[which],
        listed=which == 0,
        answers=np.log(policy[:9]),
    )


@pytest.fixture
def policies() -> tuple[Vector, Vector]:
    """A policy and its reference policy."""
    rng = np.random.default_rng(4)
    policy, reference = (0.965 * rng.dirichlet(np.ones(9)) for _ in range(2))
    return np.append(policy, [0.02, 0.01, 0.005]), np.append(reference, [0.01, 0.02, 0.005])


def test_it_is_the_gap_of_the_game_over_whole_responses(policies: tuple[Vector, Vector]) -> None:
    """Two invalid responses and one that reads as an answer are known by sampling, the nine answers by log-probs.

    The game has all twelve as its actions. Every block holds the same sample, so that there is no error.
    """
    policy, reference = policies
    game = FiniteGame(np.array(styles.preference_matrix())[np.ix_(STYLES, STYLES)], reference, TAU)
    gap, error = exact_gap([responses(policy, reference)], [responses(reference, reference)], TAU)
    assert gap == pytest.approx(game.duality_gap(policy), abs=1e-12)
    assert error == pytest.approx(0.0, abs=1e-12)


def test_the_error_is_that_of_what_is_sampled(policies: tuple[Vector, Vector]) -> None:
    """Log-ratios 2 nats higher in ten of twenty blocks, on 3.5 % of the responses, raise their gaps by 2 tau .07.

    The blocks' standard deviation is then .007 sqrt(20 / 19), over sqrt(20) for their mean.
    """
    policy, reference = policies
    own = responses(policy, reference)
    own.log_ratios[np.arange(len(own.which)) % 2 == 0] += 2.0
    _, error = exact_gap([own], [responses(reference, reference)], TAU)
    assert error == pytest.approx(0.007 / math.sqrt(19))


def test_the_gap_is_the_mean_over_questions(policies: tuple[Vector, Vector]) -> None:
    policy, reference = policies
    near, far = responses(reference, reference), responses(policy, reference)
    single = [exact_gap([one], [near], TAU)[0] for one in (near, far)]
    assert exact_gap([near, far], [near, near], TAU)[0] == pytest.approx(sum(single) / 2)


def test_too_few_responses_for_an_error_are_refused(policies: tuple[Vector, Vector]) -> None:
    own = responses(*policies)
    few = replace(own, which=own.which[:19], log_ratios=own.log_ratios[:19], listed=own.listed[:19])
    with pytest.raises(ValueError, match="needs 20 responses"):
        exact_gap([few], [own], TAU)
