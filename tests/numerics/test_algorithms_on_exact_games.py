"""Every algorithm on games whose answer is known: it reaches the Nash policy, or misses it as the theory says."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.inpo.games import FiniteGame, kl, softmax, trajectory
from tests.support.games import REFERENCE, a_certain_cycle, a_cycle, a_random_game, a_random_policy

BIASED, WEAK = a_cycle(0.9, 0.8, 0.6, 0.1), a_cycle(0.9, 0.8, 0.6, 0.01)
SYMMETRIC = a_cycle(0.9, 0.9, 0.9, 0.1)
CERTAIN = a_cycle(1.0, 1.0, 1.0, 0.1)


def closed_form(game: FiniteGame, anchor: NDArray[np.float64], opponent: NDArray[np.float64], eta: float) -> Any:
    raw = anchor * np.exp(game.preference @ opponent / eta)
    return raw / raw.sum()


@pytest.mark.parametrize("seed", range(5))
def test_each_first_step_from_a_policy_is_its_papers_closed_form(seed: int) -> None:
    """With powers instead of logarithms, tau = .1, eta = .4: what the table of updates says, to 1e-12."""
    game, pi = a_random_game(7, 0.1, seed), a_random_policy(7, seed + 100)
    ref, tau, eta = game.reference, 0.1, 0.4
    anchor = ref ** (tau / eta) * pi ** (1 - tau / eta)
    mix, eighth = anchor / anchor.sum(), ref**0.125 * pi**0.875
    half = closed_form(game, anchor, pi, eta)
    hat = closed_form(game, anchor, pi, eta)
    expected = {
        "inpo": half,
        "inpo_no_kl": closed_form(game, pi, pi, eta),
        "sppo": closed_form(game, pi, pi, eta),
        "dno": closed_form(game, pi, pi, eta),
        "ipo": closed_form(game, ref, ref, tau),
        "online_ipo": closed_form(game, ref, pi, tau),
        "ipo_md": closed_form(game, ref, eighth / eighth.sum(), tau),
        "nash_md": closed_form(game, anchor, mix, eta),
        "egpo": closed_form(game, anchor, half, eta),
        "onpo": closed_form(game, ref ** (tau / eta) * hat ** (1 - tau / eta), pi, eta),
        "mnpo": closed_form(game, ref**0.7 * pi**0.3, pi, eta),
    }
    settings = {"mnpo": {"eta": eta, "ratio": 0.4, "weights": (1, 1)}, "ipo": {}, "online_ipo": {}, "ipo_md": {}}
    for algorithm, policy in expected.items():
        parameters: dict[str, Any] = settings.get(algorithm, {"eta": eta})
        found = trajectory(game, algorithm, 1, start=pi, **parameters)[1]
        np.testing.assert_allclose(found, policy, rtol=1e-12, err_msg=algorithm)


@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_on_a_bradley_terry_game_dpo_learns_the_rewards(beta: float) -> None:
    """P = sigma(r_i - r_j): the fit is r itself, and the policy ref · exp(r / beta)."""
    rewards = np.array([0.0, 1.0, -0.5, 2.0])
    game = FiniteGame(1 / (1 + np.exp(rewards[None, :] - rewards[:, None])), [0.4, 0.3, 0.2, 0.1], 0.1)
    found = trajectory(game, "iterative_dpo", 3, beta=beta, reference="fixed")
    for policy in found[1:]:
        np.testing.assert_allclose(policy, softmax(np.log(game.reference) + rewards / beta), rtol=1e-10)


def test_where_a_response_always_wins_dpo_has_no_minimiser_and_inpo_has() -> None:
    game = FiniteGame([[0.5, 1.0], [0.0, 0.5]], [0.5, 0.5], 0.1)
    assert trajectory(game, "inpo", 50)[-1][0] > 0.9
    with pytest.raises(ArithmeticError, match="some responses win every comparison with the others"):
        trajectory(game, "iterative_dpo", 1, beta=1.0)


def test_on_a_certain_cycle_dpo_goes_on_until_no_logarithm_holds_its_masses() -> None:
    """Rewards are -log of the other masses then: at beta = 1 with a moving reference all three take turns.

    At beta = .1 every iteration makes the logarithms of the masses ten times as large.
    """
    policies = trajectory(CERTAIN, "iterative_dpo", 60, beta=1.0)
    np.testing.assert_allclose(policies.sum(axis=1), 1.0)
    assert {int(policy.argmax()) for policy in policies if policy.max() > 0.99} == {0, 1, 2}
    assert min(CERTAIN.duality_gap(policy) for policy in policies[10:]) > 0.2
    with pytest.raises(ArithmeticError, match="the Bradley-Terry fit was not found"):
        trajectory(CERTAIN, "iterative_dpo", 40, beta=0.1)


GAMES = [BIASED, WEAK, SYMMETRIC, CERTAIN, a_random_game(8, 0.1, 31), a_random_game(30, 0.03, 32)]


@pytest.mark.parametrize("game", GAMES)
def test_nash_mp_is_egpo_at_eta_equal_to_tau_plus_one_half(game: FiniteGame) -> None:
    one, other = trajectory(game, "nash_mp", 200), trajectory(game, "egpo", 200, eta=game.tau + 0.5)
    np.testing.assert_allclose(np.log(one), np.log(other), rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("tau", [0.005, 0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("game", GAMES)
def test_nash_mp_keeps_its_bound_in_every_iteration(game: FiniteGame, tau: float) -> None:
    """KL_k <= KL_0 (1 + 2 tau)^-k (arXiv 2505.19731), down to the square of the Nash policy's own rounding."""
    game = FiniteGame(game.preference, game.reference, tau)
    distances = [game.kl_to_nash(policy) for policy in trajectory(game, "nash_mp", min(2000, int(30 / tau)))]
    for k, distance in enumerate(distances):
        assert distance <= distances[0] * (1.0 + 2.0 * tau) ** -k + 1e-26


@pytest.mark.parametrize("num", [10, 100, 1000, 3000])
@pytest.mark.parametrize("game", [BIASED, a_random_game(8, 0.1, 31)])
def test_inpos_mixture_keeps_the_bound_of_theorem_3(game: FiniteGame, num: int) -> None:
    """With D = log(1 / min ref), eta = sqrt(T / (2 D)): gap of the uniform mixture <= 2 (eta D + T / (2 eta)) / T."""
    distance = math.log(1.0 / float(game.reference.min()))
    eta = max(game.tau, math.sqrt(num / (2.0 * distance)))
    mixture = trajectory(game, "inpo", num - 1, eta=eta).mean(axis=0)
    assert game.duality_gap(mixture) <= 2.0 * (eta * distance + num / (2.0 * eta)) / num


@pytest.mark.parametrize("game", [BIASED, WEAK, CERTAIN, a_random_game(8, 0.1, 31)])
def test_under_theorem_4s_steps_the_last_iterate_keeps_its_bound_for_3000_iterations(game: FiniteGame) -> None:
    """KL(pi* || pi_T) <= 32 max(1, (tau B)^2) / (tau^2 (T + 1)), B the largest |log pi_t / ref| on the way."""
    policies = trajectory(game, "inpo", 3000, eta="theorem4")
    largest = np.maximum.accumulate(np.abs(np.log(policies / game.reference)).max(axis=1))
    for t in itertools.chain(range(50), range(50, 3001, 50)):
        assert game.kl_to_nash(policies[t]) <= 32 * max(1.0, (game.tau * largest[t]) ** 2) / (game.tau**2 * (t + 1))


@pytest.mark.parametrize(
    ("preference", "reference"),
    [
        (BIASED.preference, REFERENCE),
        (a_random_game(8, 0.1, 31).preference, np.full(8, 1 / 8)),
        (a_certain_cycle(5), [0.4, 0.3, 0.15, 0.1, 0.05]),
        (a_random_game(5, 0.1, 33).preference, [1.0 - 4e-8, *4 * [1e-8]]),
    ],
    ids=["cycle", "random", "certain", "extreme reference"],
)
def test_onpos_mixture_closes_in_at_one_over_t_where_hedges_needs_the_root(
    preference: NDArray[np.float64], reference: Sequence[float]
) -> None:
    """Without tau, D = log(1 / min ref): ONPO's gap <= 2 (eta D + 1 / (8 eta)) / T, tuned Hedge's <= 2 sqrt(D / (2 T)).

    Optimistic mirror descent has regret eta D + sum |g_t - g_{t-1}| |pi_t - hat_{t+1}| less eta / 2 times the squares
    of its moves. P is 1/2-Lipschitz, so that for eta >= 3/2 all but the first round's 1 / (8 eta) cancels. At T = 3,000
    ONPO is ahead, by a factor of more than two (published, on the cycle: six).
    """
    game, eta = FiniteGame(preference, reference, 0.0), 2.0
    distance = math.log(1.0 / float(game.reference.min()))
    policies = trajectory(game, "onpo", 3000, eta=eta)
    hedge = onpo = math.inf
    for steps in (1, 10, 30, 100, 300, 1000, 3000):
        tuned = trajectory(game, "inpo_no_kl", steps - 1, eta=math.sqrt(steps / (8.0 * distance)))
        hedge, onpo = (game.duality_gap(p.mean(axis=0)) for p in (tuned, policies[:steps]))
        assert onpo <= 2.0 * (eta * distance + 1.0 / (8.0 * eta)) / steps
        assert hedge <= 2.0 * math.sqrt(distance / (2.0 * steps))
    assert onpo < 0.5 * hedge


@pytest.mark.parametrize("algorithm", ["inpo_no_kl", "sppo", "dno"])
def test_without_a_reference_the_last_iterate_circles_outwards(algorithm: str) -> None:
    game = SYMMETRIC
    policies = trajectory(game, algorithm, 400, eta=0.6)
    assert game.kl_to_nash(policies[400]) > 5.0 * game.kl_to_nash(policies[10])
    assert len({int(policy.argmax()) for policy in policies[-200:]}) == 3


def test_constant_steps_leave_nash_md_and_ipo_md_beside_the_nash_policy() -> None:
    """Their opponent is a mixture with the reference: the fixed point is another one."""
    for algorithm, gap in (("nash_md", 3.79e-4), ("ipo_md", 2.11e-4)):
        before, last = trajectory(BIASED, algorithm, 500)[-2:]
        np.testing.assert_allclose(before, last, atol=1e-14)
        assert BIASED.duality_gap(last) == pytest.approx(gap, rel=1e-2)


@pytest.mark.parametrize("beta", [0.3, 0.8, 2.0])
def test_dpo_with_a_moving_reference_runs_from_vertex_to_vertex(beta: float) -> None:
    """On the symmetric cycle each response in turn takes nearly all; EGPO and Nash-MP solve the game meanwhile."""
    policies = trajectory(SYMMETRIC, "iterative_dpo", 400, beta=beta)
    visited = {int(policy.argmax()) for policy in policies if policy.max() > 0.99}
    assert visited == {0, 1, 2}
    assert min(SYMMETRIC.duality_gap(policy) for policy in policies[-50:]) > 0.15
    for algorithm in ("egpo", "nash_mp"):
        assert SYMMETRIC.duality_gap(trajectory(SYMMETRIC, algorithm, 100)[-1]) < 1e-12


def test_sppos_loss_is_its_ideal_update_for_small_steps_and_a_threshold_for_the_official_ones() -> None:
    """At 1/eta = 1 within 1e-3 in total variation; at the official 1,000 near pi_t · max(P - 1/2, 0) instead."""
    game = a_random_game(8, 0.1, 31)

    def distance(one: Any, other: Any) -> float:
        return 0.5 * float(np.abs(one - other).sum())

    cut = game.reference * np.maximum(game.win_rates(game.reference) - 0.5, 0.0)
    for eta, ideal, threshold in ((1.0, (0.0, 1e-3), (0.3, 1.0)), (1e-3, (0.1, 1.0), (0.0, 1e-2))):
        exact = trajectory(game, "sppo", 1, eta=eta)[1]
        found = trajectory(game, "sppo", 1, eta=eta, update="loss")[1]
        assert ideal[0] <= distance(found, exact) <= ideal[1]
        assert threshold[0] <= distance(found, cut / cut.sum()) <= threshold[1]


def test_trajectories_stay_distributions_at_the_papers_and_at_absurd_scales() -> None:
    """Log-probabilities of minus millions included."""
    games = [a_cycle(0.9, 0.8, 0.6, tau) for tau in (1e-8, 0.0025, 1.0)]
    for game, eta in itertools.product(games, (1.0, 1e6)):
        for algorithm in ("inpo", "egpo", "nash_md", "onpo", "mnpo", "sppo", "dno"):
            policies = trajectory(game, algorithm, 30, eta=eta)
            np.testing.assert_allclose(policies.sum(axis=1), 1.0)
    for game, eta in itertools.product(games, (1e-8, 1e-3, 1e6)):
        np.testing.assert_allclose(trajectory(game, "sppo", 30, eta=eta, update="loss").sum(axis=1), 1.0)
    for game in games:
        for algorithm in ("online_ipo", "ipo", "ipo_md", "nash_mp", "iterative_dpo"):
            np.testing.assert_allclose(trajectory(game, algorithm, 30).sum(axis=1), 1.0)


def test_one_response_and_no_iteration_are_trajectories_too() -> None:
    np.testing.assert_array_equal(trajectory(FiniteGame([[0.5]], [1.0], 0.1), "egpo", 3), np.ones((4, 1)))
    np.testing.assert_allclose(trajectory(BIASED, "inpo", 0), [REFERENCE])


def test_without_tau_inpo_is_hedge_and_nash_mp_the_proximal_point_method() -> None:
    game = a_cycle(0.9, 0.8, 0.6, 0.0)
    np.testing.assert_array_equal(trajectory(game, "inpo", 9), trajectory(game, "inpo_no_kl", 9))
    assert game.duality_gap(trajectory(game, "nash_mp", 3000)[-1]) < 1e-3
    with pytest.raises(ValueError, match="online_ipo needs `tau`"):
        trajectory(game, "online_ipo", 1)


@pytest.mark.parametrize(
    ("algorithm", "parameters", "message"),
    [
        ("bogus", {}, "`name` must be one of dno, egpo"),
        ("inpo", {"eta": 0.05}, r"`tau` \(0.1\) must not exceed `eta` \(0.05\)"),
        ("inpo", {"eta": "fast"}, "`eta` must be a number or theorem4, not 'fast'"),
        ("inpo", {"eta": math.nan}, "`eta` must be positive and finite"),
        ("inpo", {"beta": 0.3}, "`beta` is a parameter of iterative_dpo, not of inpo"),
        ("inpo", {"speed": 0.3}, "`speed` is no parameter: inpo takes eta, schedule, tau"),
        ("inpo", {"tau": 0.3}, "tau is the game's"),
        ("iterative_dpo", {"reference": "none"}, "`reference` must be fixed or moving"),
        ("dno", {"eta": "theorem4"}, "`schedule` is a parameter of .*, not of dno"),
        ("mnpo", {"weights": (1.0, "x")}, "`weights` must be a number"),
        ("mnpo", {"weights": 2.0}, "`weights` must be several numbers"),
        ("mnpo", {"opponents": "all"}, "`opponents` must be current or mixture, not 'all'"),
        ("inpo", {"schedule": "linear"}, "`schedule` must be constant or theorem4, not 'linear'"),
        ("iterative_dpo", {"reference": ["fixed"]}, "`reference` must be fixed or moving"),
        ("ipo_md", {"mixture": 2.0}, r"`mixture` must be in \[0, 1\]"),
        ("sppo", {"update": "best"}, "update must be `ideal` or `loss`"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(algorithm: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trajectory(BIASED, algorithm, 1, **parameters)


@pytest.mark.parametrize("num", [-1, 2.5, "3", None, True])
def test_a_number_of_iterations_that_is_none_is_refused(num: Any) -> None:
    with pytest.raises(ValueError, match="num_iterations must be a whole number that is at least 0, not"):
        trajectory(BIASED, "inpo", num)


def test_numbers_of_any_kind_are_parameters() -> None:
    """1, 1.0, numpy's and arrays of one number alike; theorem 4's steps by either of their names."""
    number: Any = np.int64(5)
    whole = trajectory(BIASED, "mnpo", number, eta=1, ratio=0, weights=[2, 1])
    for eta, weights in ((1.0, (2.0, 1.0)), (np.float32(1.0), np.array([2, 1])), (np.array(1), (np.int32(2), 1))):
        np.testing.assert_array_equal(
            trajectory(BIASED, "mnpo", 5, eta=eta, ratio=np.float64(0.0), weights=weights), whole
        )
    np.testing.assert_array_equal(
        trajectory(BIASED, "inpo", 5, schedule="theorem4"), trajectory(BIASED, "inpo", 5, eta="theorem4")
    )


def test_a_start_must_be_a_policy() -> None:
    with pytest.raises(ValueError, match="policy must be probabilities that sum to 1"):
        trajectory(BIASED, "inpo", 1, start=[0.5, 0.2, 0.1])
    assert kl(trajectory(BIASED, "inpo", 0, start=[0.2, 0.3, 0.5])[0], [0.2, 0.3, 0.5]) == pytest.approx(0.0, abs=1e-15)
