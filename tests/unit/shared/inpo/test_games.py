"""The exact finite game: its definitions, checked by hand and by brute force."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.inpo.games import FiniteGame, kl, multiplayer_duality_gap, softmax
from tests.support.games import REFERENCE, a_certain_cycle, a_cycle, a_random_game, a_random_policy


def simplex(num_steps: int) -> list[NDArray[np.float64]]:
    """All policies over 3 responses whose probabilities are multiples of 1 / num_steps."""
    return [
        np.array([i, j, num_steps - i - j]) / num_steps for i in range(num_steps + 1) for j in range(num_steps + 1 - i)
    ]


def test_win_rates_average_the_preferences_over_the_opponent() -> None:
    """Against (.6, .3, .1): .3 + .27 + .04 = .61, .06 + .15 + .08 = .29, .36 + .06 + .05 = .47."""
    np.testing.assert_allclose(a_cycle(0.9, 0.8, 0.6, 0.1).win_rates(REFERENCE), [0.61, 0.29, 0.47])


def test_the_value_is_the_win_rate_less_the_players_own_penalty() -> None:
    """Response 1 alone against response 2 alone: .9 - .1 log(1/.6) + .1 log(1/.3)."""
    game = a_cycle(0.9, 0.8, 0.6, 0.1)
    expected = 0.9 - 0.1 * math.log(1 / 0.6) + 0.1 * math.log(1 / 0.3)
    assert game.value([1, 0, 0], [0, 1, 0]) == pytest.approx(expected)


@pytest.mark.parametrize("tau", [0.0, 0.1, 1.0])
def test_the_values_of_the_two_players_sum_to_one(tau: float) -> None:
    game = a_random_game(5, tau, 1)
    first, second = a_random_policy(5, 2), a_random_policy(5, 3)
    assert game.value(first, second) + game.value(second, first) == pytest.approx(1.0)
    assert game.value(first, first) == pytest.approx(0.5)


@pytest.mark.parametrize("tau", [0.02, 0.1, 0.5])
def test_the_duality_gap_is_what_a_grid_over_all_policies_finds(tau: float) -> None:
    """The definition max_p J(p, pi) - min_p J(pi, p) on a grid: never above the closed form, and within its mesh.

    J is smooth, so on a mesh of 1/60 the maxima are missed by less than 1e-2.
    """
    game, policy = a_cycle(0.9, 0.8, 0.6, tau), np.array([0.2, 0.5, 0.3])
    values = [game.value(other, policy) for other in simplex(60)]
    against = [game.value(policy, other) for other in simplex(60)]
    found = max(values) - min(against)
    assert found <= game.duality_gap(policy) + 1e-12
    assert found == pytest.approx(game.duality_gap(policy), abs=1e-2)


def test_without_regularisation_the_gap_is_what_the_best_response_wins() -> None:
    """Response 1 alone loses to response 3 with .6: 2 (.6 - .5) = .2. A uniform policy in a fair cycle has none."""
    game = a_cycle(0.9, 0.8, 0.6, 0.0)
    assert game.duality_gap([1, 0, 0]) == pytest.approx(0.2)
    assert a_cycle(0.9, 0.9, 0.9, 0.0).duality_gap([1 / 3, 1 / 3, 1 / 3]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("tau", [0.01, 0.3])
def test_no_random_policy_beats_the_best_response(tau: float) -> None:
    game, policy = a_random_game(6, tau, 4), a_random_policy(6, 5)
    best = game.value(game.best_response(policy), policy)
    assert all(game.value(a_random_policy(6, seed), policy) < best for seed in range(50))
    assert game.duality_gap(policy) == pytest.approx(2 * (best - 0.5))


def test_the_best_response_without_regularisation_is_the_limit_of_small_tau() -> None:
    """Against response 2 alone, response 1 wins most often; ties share as the reference does."""
    np.testing.assert_allclose(a_cycle(0.9, 0.8, 0.6, 0.0).best_response([0, 1, 0]), [1, 0, 0])
    tied = FiniteGame([[0.5, 0.5, 0.9], [0.5, 0.5, 0.9], [0.1, 0.1, 0.5]], REFERENCE, 0.0)
    np.testing.assert_allclose(tied.best_response(REFERENCE), [2 / 3, 1 / 3, 0])


def test_a_policy_that_never_gives_some_response_has_a_gap() -> None:
    """Shares counted from samples have zeros: 0 log 0 = 0. J(p, pi) is maximal at ref exp(P / tau)."""
    game = a_cycle(0.9, 0.8, 0.6, 0.1)
    partition = sum(r * math.exp(p / 0.1) for r, p in zip(REFERENCE, [0.5, 0.1, 0.6], strict=True))
    expected = 2 * (0.1 * math.log(partition) + 0.1 * math.log(1 / 0.6) - 0.5)
    assert game.duality_gap([1, 0, 0]) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tau", [0.0025, 0.05, 1.0, 5.0])
def test_the_nash_policy_is_its_own_best_response(tau: float, seed: int) -> None:
    game = a_random_game(5, tau, seed)
    nash = game.nash()
    assert game.nash_residual(nash) <= 1e-12
    np.testing.assert_allclose(game.best_response(nash), nash, rtol=1e-9)
    assert abs(game.duality_gap(nash)) < 1e-14


@pytest.mark.parametrize(
    ("num", "tau", "seed"), [(8, 0.001, 30), (30, 0.001, 37), (30, 0.001, 114), (8, 0.003, 120), (30, 0.003, 69)]
)
def test_the_nash_policys_equation_holds_to_1e12_under_a_weak_kl_too(num: int, tau: float, seed: int) -> None:
    """Residual log pi - (log ref + P pi / tau - log Z), with P itself, as the definition has it."""
    game = a_random_game(num, tau, seed)
    nash = game.nash()
    exponents = np.log(game.reference) + game.preference @ nash / tau
    residual = np.log(nash) - (exponents - np.logaddexp.reduce(exponents))
    assert float(np.abs(residual).max()) <= 1e-12


def test_the_nash_policy_of_indifferent_judges_is_the_reference() -> None:
    game = FiniteGame(np.full((3, 3), 0.5), REFERENCE, 0.1)
    np.testing.assert_allclose(game.nash(), REFERENCE)


def test_the_nash_policy_of_a_transitive_game_of_two_solves_its_equation() -> None:
    """P = .9, ref = 1/2 each, tau = 1: log(p / (1-p)) = P(1 > pi) - P(2 > pi) = .4 whatever pi is."""
    game = FiniteGame([[0.5, 0.9], [0.1, 0.5]], [0.5, 0.5], 1.0)
    assert game.nash()[0] == pytest.approx(1 / (1 + math.exp(-0.4)))


def test_a_game_of_one_response_is_over() -> None:
    game = FiniteGame([[0.5]], [1.0], 0.1)
    np.testing.assert_allclose(game.nash(), [1.0])
    assert game.duality_gap([1.0]) == pytest.approx(0.0)
    assert game.stability_threshold() == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("game", "nash"),
    [
        (a_cycle(0.9, 0.8, 0.6, 0.0), [0.3 / 0.8, 0.1 / 0.8, 0.4 / 0.8]),
        (FiniteGame([[0.5, 0.9], [0.1, 0.5]], [0.01, 0.99], 0.0), [1.0, 0.0]),
        (FiniteGame(np.full((3, 3), 0.5), REFERENCE, 0.0), REFERENCE),
        (FiniteGame([[0.5]], [1.0], 0.0), [1.0]),
    ],
)
def test_without_tau_a_nash_policy_of_the_unregularised_game_is_found(game: FiniteGame, nash: Sequence[float]) -> None:
    """A cycle with margins a, b, c (.4, .3, .1) has the Nash policy (b, c, a) / (a + b + c)."""
    assert game.duality_gap(game.nash()) <= 1e-12
    np.testing.assert_allclose(game.nash(), nash, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_without_tau_nobody_beats_the_nash_policy_of_a_random_game(seed: int) -> None:
    """Games of certain winners, too: half of them are tournaments."""
    game = a_random_game(9, 0.0, seed)
    preference = np.where(game.preference == 0.5, 0.5, game.preference > 0.5) if seed % 2 else game.preference
    nash = FiniteGame(preference, game.reference, 0.0).nash()
    assert float((preference @ nash).max()) <= 0.5 + 1e-12


def test_without_tau_a_game_that_no_tiny_tau_solves_is_solved() -> None:
    """Of 4,000 random games one whose regularised Nash policies are not found below tau = 1e-6."""
    reference = np.where(np.arange(25) % 3 == 0, 1.0, 1e-8)
    game = FiniteGame(a_random_game(25, 0.0, 228).preference, reference / reference.sum(), 0.0)
    assert game.duality_gap(game.nash()) <= 1e-12


@pytest.mark.parametrize("num", [8, 12, 50])
def test_without_tau_ties_and_an_extreme_reference_are_no_obstacle(num: int) -> None:
    """An even cycle of certain answers, opposite responses tied: every pair of opposites is a Nash policy."""
    reference = np.where(np.arange(num) % 3 == 0, 1.0, 1e-8)
    game = FiniteGame(a_certain_cycle(num), reference / reference.sum(), 0.0)
    assert game.duality_gap(game.nash()) <= 1e-12
    assert game.nash().min() >= 0.0
    assert game.nash().sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("tau", [1e-11, 1e-9, 1e-6, 1e-4])
def test_tiny_tau_is_solved_to_the_precision_of_numbers(tau: float) -> None:
    """An error of an epsilon in P pi is one of epsilon / tau in log pi."""
    for game in (a_cycle(0.9, 0.8, 0.6, tau), a_random_game(30, tau, 3)):
        assert game.nash_residual(game.nash()) <= 16 * 2.3e-16 / tau
        assert game.duality_gap(game.nash()) <= 1e-14


def test_a_reference_that_hardly_ever_gives_the_winners_is_no_obstacle() -> None:
    """The Nash policy of tau = .0025 gives what the reference gives once in 1e30 times."""
    reference = np.array([1.0 - 7e-30, *[1e-30] * 7])
    game = FiniteGame(a_random_game(8, 0.1, 5).preference, reference, 0.0025)
    assert game.nash_residual(game.nash()) <= 2e-12
    assert game.nash()[0] < 0.9


def test_games_of_hundreds_of_responses_are_solved() -> None:
    game = a_random_game(300, 0.05, 6)
    assert game.nash_residual(game.nash()) <= 1e-12


def test_the_nash_policy_is_found_once_and_cannot_be_changed() -> None:
    game = a_cycle(0.9, 0.8, 0.6, 0.1)
    assert game.nash() is game.nash()
    with pytest.raises(ValueError, match="read-only"):
        game.nash()[0] = 1.0


def test_kl_to_nash_is_the_kl_of_the_nash_policy_from_the_policy() -> None:
    game = a_cycle(0.9, 0.8, 0.6, 0.1)
    assert game.kl_to_nash(REFERENCE) == pytest.approx(kl(game.nash(), REFERENCE))
    assert game.kl_to_nash(game.nash()) == 0.0
    assert game.kl_to_nash([1.0, 0.0, 0.0]) == math.inf


def test_without_tau_no_constant_step_is_stable_and_no_residual_is_defined() -> None:
    game = a_cycle(0.9, 0.8, 0.6, 0.0)
    assert game.stability_threshold() == math.inf
    with pytest.raises(ValueError, match="the residual needs tau > 0"):
        game.nash_residual(REFERENCE)


def test_the_multiplayer_gap_of_equal_players_is_the_two_player_gap() -> None:
    game, policy = a_random_game(5, 0.1, 7), a_random_policy(5, 8)
    for num in (2, 3, 5):
        assert multiplayer_duality_gap(game, [policy] * num) == pytest.approx(game.duality_gap(policy))
    assert multiplayer_duality_gap(game, [game.nash()] * 3) == pytest.approx(0.0, abs=1e-14)


def test_the_multiplayer_gap_is_that_of_the_player_who_gains_most_by_leaving() -> None:
    """Without tau, a cycle 1 > 2 > 3 > 1 with .9, .8, .6, players 1, 1 and 2.

    The others of a player 1 are (1/2, 1/2): responses win .7, .3, (.6 + .2)/2 = .4 of them, so that player has the
    best one. The others of player 2 are both 1: it wins .1, the best (3) would .6: 2 · .5 = 1.
    """
    game = a_cycle(0.9, 0.8, 0.6, 0.0)
    assert multiplayer_duality_gap(game, [[1, 0, 0], [1, 0, 0], [0, 1, 0]]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least two players, not 1"):
        multiplayer_duality_gap(game, [REFERENCE])


def test_kl_is_zero_for_equals_infinite_outside_the_support_and_by_hand_elsewhere() -> None:
    """Of (.5, .5) from (.25, .75): .5 log 2 + .5 log(2/3)."""
    assert kl([0.5, 0.5], [0.5, 0.5]) == 0.0
    assert kl([0.5, 0.5], [0.25, 0.75]) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert kl([1.0, 0.0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert kl([0.5, 0.5], [1.0, 0.0]) == math.inf


@pytest.mark.parametrize("shift", [1e-15, 1e-10, 1e-5, 1e-4, 1e-3, 0.5])
def test_kl_of_near_policies_keeps_its_digits(shift: float) -> None:
    """From (1/2, 1/2) to (1/2 + d, 1/2 - d): -log(1 - 4 d^2) / 2, which is 2 d^2 for a small d."""
    policy = np.array([0.5 + shift / 2, 0.5 - shift / 2])
    moved = policy[0] - 0.5
    assert kl([0.5, 0.5], policy) == pytest.approx(-0.5 * math.log1p(-4 * moved**2), rel=1e-9)


def test_gap_and_kl_fall_to_the_square_of_rounding_and_are_never_negative() -> None:
    """Both are quadratic in the distance to the Nash policy, whose logarithms have 15 digits."""
    game = a_random_game(12, 0.1, 9)
    nash = game.nash()
    for size in (1e-3, 1e-6, 1e-9, 1e-12):
        tilted = nash * np.exp(size * np.cos(np.arange(12)))
        near = tilted / tilted.sum()
        for distance in (game.kl_to_nash(near), game.duality_gap(near)):
            assert 1e-3 * size**2 < distance < size**2
    assert 0.0 <= game.duality_gap(nash) < 1e-28


def test_softmax_does_not_overflow() -> None:
    np.testing.assert_allclose(softmax([1e4, 1e4 + math.log(3.0)]), [0.25, 0.75])


@pytest.mark.parametrize(
    ("preference", "reference", "tau", "message"),
    [
        ([[0.5, 0.9], [0.2, 0.5]], [0.5, 0.5], 0.1, r"preference must satisfy P \+ P\^T = 1"),
        ([[0.6, 0.9], [0.1, 0.5]], [0.5, 0.5], 0.1, r"preference must satisfy P \+ P\^T = 1"),
        ([[0.5, 1.2], [-0.2, 0.5]], [0.5, 0.5], 0.1, r"preference must be probabilities in \[0, 1\]"),
        ([[0.5, math.nan], [0.1, 0.5]], [0.5, 0.5], 0.1, r"preference must be probabilities in \[0, 1\]"),
        ([["a", 0.9], [0.1, 0.5]], [0.5, 0.5], 0.1, "preference must be an array of numbers"),
        ([[0.5, 0.9]], [0.5, 0.5], 0.1, "preference must be a square matrix"),
        ([[0.5]], [0.5, 0.5], 0.1, "reference must hold 1 probabilities"),
        ([[0.5, 0.9], [0.1, 0.5]], [0.5, 0.4], 0.1, "reference must be probabilities that sum to 1"),
        ([[0.5, 0.9], [0.1, 0.5]], [math.nan, 0.5], 0.1, "reference must be probabilities that sum to 1"),
        ([[0.5, 0.9], [0.1, 0.5]], [1.0, 0.0], 0.1, "reference must give every response a positive probability"),
        ([[0.5, 0.9], [0.1, 0.5]], [0.5, 0.5], -0.1, "tau must be a finite number >= 0"),
        ([[0.5, 0.9], [0.1, 0.5]], [0.5, 0.5], math.nan, "tau must be a finite number >= 0"),
        ([[0.5, 0.9], [0.1, 0.5]], [0.5, 0.5], "strong", "tau must be a number, not 'strong'"),
        ([[0.5, 0.9], [0.1, 0.5]], [0.5, 0.5], None, "tau must be a number, not None"),
        ([[0.5, 0.9], [0.1, 0.5]], [0.5, 0.5], True, "tau must be a number, not True"),
        ([[0.5, 0.9j], [0.1, 0.5]], [0.5, 0.5], 0.1, "preference must be an array of numbers: complex"),
        ([[0.5, 0.9], [0.1]], [0.5, 0.5], 0.1, "preference must be an array of numbers"),
        ([[0.5, 0.99999], [0.00002, 0.5]], [0.5, 0.5], 0.1, r"P\[0, 1\] \+ P\[1, 0\] = 1.00001"),
        ([[0.5, 0.9], [0.1, 0.5]], [1.5, -0.5], 0.1, "reference must be .*: the smallest is -0.5, the sum 1"),
    ],
)
def test_what_is_no_game_is_refused_by_name(
    preference: Sequence[Sequence[object]], reference: Sequence[float], tau: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FiniteGame(preference, reference, tau)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_numbers_of_any_kind_make_a_game(kind: type[np.float64 | np.float32]) -> None:
    """In 32 bits .9 + .1 is off 1 by 2e-8, which is no mistake; a whole number is a strength too."""
    matrix, reference = np.array([[0.5, 0.9], [0.1, 0.5]], dtype=kind), np.array([0.7, 0.3], dtype=kind)
    expected = FiniteGame([[0.5, 0.9], [0.1, 0.5]], [0.7, 0.3], 1.0).nash()
    taus: list[Any] = [1, kind(1), np.array(1.0), np.int64(1)]
    for tau in taus:
        np.testing.assert_allclose(FiniteGame(matrix, reference, tau).nash(), expected, atol=1e-7)


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="policy must hold 3 probabilities"):
        a_cycle(0.9, 0.8, 0.6, 0.1).duality_gap([0.5, 0.5])
    with pytest.raises(ValueError, match="policy must be probabilities that sum to 1"):
        a_cycle(0.9, 0.8, 0.6, 0.1).win_rates([0.5, 0.5, 0.5])


def test_a_game_cannot_be_changed_behind_its_back() -> None:
    preferences = np.array([[0.5, 0.9], [0.1, 0.5]])
    game = FiniteGame(preferences, [0.5, 0.5], 0.1)
    preferences[0, 1] = 0.0
    assert game.preference[0, 1] == 0.9
    with pytest.raises(ValueError, match="read-only"):
        game.preference[0, 1] = 0.0
