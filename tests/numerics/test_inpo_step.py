# torch.Tensor's methods are typed by Any in many places.
# pyright: reportUnknownMemberType=false
"""INPO's loss, minimised exactly on small games, is INPO's update (arXiv 2407.00617, Eq. 5 and Prop. 6).

The loss is the trainer's own (`shared.inpo.objective`), in float64. In the logits it is quadratic, so that one Newton
step with its gradient and Hessian is the exact minimiser.
"""

import itertools
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax

from shared.inpo.games import FiniteGame, softmax, trajectory
from shared.inpo.objective import anchored_squared_loss, pair_losses, squared_target
from tests.support.games import a_random_game, a_random_policy

TAU, ETA, NUM = 0.1, 0.3, 6
PAIRS = torch.tensor(list(itertools.product(range(NUM), repeat=2)))
Vector = NDArray[np.float64]


@pytest.fixture
def game() -> FiniteGame:
    return a_random_game(NUM, TAU, seed=21)


@pytest.fixture
def policy() -> Vector:
    return a_random_policy(NUM, seed=22)


def inpo_step(game: FiniteGame, policy: Vector) -> Vector:
    """INPO's exact update of a policy."""
    return trajectory(game, "inpo", 1, start=policy, eta=ETA)[1]


def log_ratios(logits: Tensor) -> Tensor:
    """D of every ordered pair of responses."""
    return logits[PAIRS[:, 0]] - logits[PAIRS[:, 1]]


def logs(policy: Vector) -> Tensor:
    return log_ratios(torch.from_numpy(np.log(policy)))


def inpo_anchors(game: FiniteGame, policy: Vector) -> list[tuple[float, Tensor]]:
    share = TAU / ETA
    return [(share, logs(game.reference)), (1 - share, logs(policy))]


def of_pairs(matrix: Vector) -> Tensor:
    return torch.from_numpy(matrix.copy())[PAIRS[:, 0], PAIRS[:, 1]]


def drawn_from(opponent: Vector) -> Tensor:
    """Probability of each ordered pair of two i.i.d. responses."""
    return of_pairs(np.outer(opponent, opponent))


def minimiser(loss: Callable[[Tensor], Tensor]) -> Vector:
    """The policy that minimises a loss quadratic in the logits (their constant shift is free)."""
    start = torch.zeros(NUM, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(loss(start), start)[0]
    hessian = cast(Tensor, torch.autograd.functional.hessian(loss, start.detach()))
    step = cast(Tensor, torch.linalg.pinv(hessian, hermitian=True) @ gradient)
    return softmax(-step.numpy())


def binary_loss(game: FiniteGame, policy: Vector, opponent: Vector, eta: float = ETA) -> Callable[[Tensor], Tensor]:
    """Eq. 8: pairs of the opponent, the winner chosen by one draw from P, target 1 / (2 eta)."""
    weights = 2 * drawn_from(opponent) * of_pairs(game.preference)
    ones, anchors = torch.ones(len(PAIRS), dtype=torch.float64), inpo_anchors(game, policy)
    return lambda logits: (weights * pair_losses("squared", eta, log_ratios(logits), anchors, ones).loss).sum()


def soft_loss(game: FiniteGame, policy: Vector) -> Callable[[Tensor], Tensor]:
    """The same pairs as they come, target (P - 1/2) / eta."""
    weights, answers, anchors = drawn_from(policy), of_pairs(game.preference), inpo_anchors(game, policy)
    return lambda logits: (weights * pair_losses("squared", ETA, log_ratios(logits), anchors, answers).loss).sum()


def population_loss(game: FiniteGame, policy: Vector) -> Callable[[Tensor], Tensor]:
    """L_t: both responses' win rates against pi_t are known."""
    rates = torch.from_numpy(game.win_rates(policy))
    weights, anchors, target = drawn_from(policy), inpo_anchors(game, policy), log_ratios(rates) / ETA
    return lambda logits: (weights * anchored_squared_loss(log_ratios(logits), anchors, target)).sum()


def test_the_exact_step_is_the_papers_closed_form(game: FiniteGame, policy: Vector) -> None:
    """Eq. 5 written with powers: ref^(1/3) pi^(2/3) exp(P(· > pi) / .3), normalised."""
    raw = game.reference ** (1 / 3) * policy ** (2 / 3) * np.exp(game.preference @ policy / 0.3)
    np.testing.assert_allclose(inpo_step(game, policy), raw / raw.sum(), rtol=1e-12)


@pytest.mark.parametrize("loss", [population_loss, soft_loss])
def test_the_minimiser_of_the_loss_is_the_exact_step(
    game: FiniteGame, policy: Vector, loss: Callable[[FiniteGame, Vector], Callable[[Tensor], Tensor]]
) -> None:
    np.testing.assert_allclose(minimiser(loss(game, policy)), inpo_step(game, policy), atol=1e-10)


def test_the_minimiser_with_binary_answers_is_the_exact_step(game: FiniteGame, policy: Vector) -> None:
    """Proposition 6: one draw a pair, target 1 / (2 eta)."""
    np.testing.assert_allclose(minimiser(binary_loss(game, policy, policy)), inpo_step(game, policy), atol=1e-10)


def test_the_losses_differ_by_a_constant(game: FiniteGame, policy: Vector) -> None:
    """Proposition 6: so their gradients are equal everywhere, not only at the minimum."""
    binary, soft, population = (
        binary_loss(game, policy, policy),
        soft_loss(game, policy),
        population_loss(game, policy),
    )
    others = [torch.from_numpy(np.log(a_random_policy(NUM, seed))) for seed in range(6)]
    for loss in (binary, soft):
        differences = [float(loss(other) - population(other)) for other in others]
        assert max(differences) - min(differences) < 1e-12


def test_the_opponent_is_whoever_the_pairs_were_sampled_from(game: FiniteGame, policy: Vector) -> None:
    """Sampling at temperature .7 plays against pi^(1/.7), from the same anchor: another step, far from INPO's."""
    tempered = softmax(np.log(policy) / 0.7)
    found = minimiser(binary_loss(game, policy, tempered))
    anchor = (TAU / ETA) * np.log(game.reference) + (1 - TAU / ETA) * np.log(policy)
    np.testing.assert_allclose(found, softmax(anchor + game.win_rates(tempered) / ETA), atol=1e-10)
    assert np.abs(np.log(found) - np.log(inpo_step(game, policy))).max() > 0.01


def test_doubling_the_target_doubles_the_step(game: FiniteGame, policy: Vector) -> None:
    """Target 1 / eta instead of 1 / (2 eta): the anchor times exp(2 P / eta). No factor of two is free."""
    weights, anchors = 2 * drawn_from(policy) * of_pairs(game.preference), inpo_anchors(game, policy)
    doubled = 2 * squared_target(torch.ones(len(PAIRS), dtype=torch.float64), ETA)
    found = minimiser(lambda logits: (weights * anchored_squared_loss(log_ratios(logits), anchors, doubled)).sum())
    anchor = (TAU / ETA) * np.log(game.reference) + (1 - TAU / ETA) * np.log(policy)
    np.testing.assert_allclose(found, softmax(anchor + game.win_rates(policy) / (ETA / 2)), atol=1e-10)


def test_before_the_first_step_the_loss_is_the_square_of_half_over_eta(game: FiniteGame) -> None:
    """At t = 1, pi_t = ref and theta = pi_t: h = 0 on every pair, the loss is (1 / (2 · .3))^2 = 2.7778."""
    loss = binary_loss(game, game.reference, game.reference)
    assert float(loss(torch.from_numpy(np.log(game.reference)))) == pytest.approx((1 / 0.6) ** 2, rel=1e-12)


def test_adam_on_a_softmax_policy_finds_the_exact_step(game: FiniteGame, policy: Vector) -> None:
    """As a trainer does it: start at pi_t, full batches, gradients of the loss only."""
    logits = torch.from_numpy(np.log(policy)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.995)
    loss = binary_loss(game, policy, policy)
    for _ in range(2000):
        optimizer.zero_grad()
        loss(log_softmax(logits, dim=-1)).backward()
        optimizer.step()
        schedule.step()
    found = softmax(logits.detach().numpy())
    np.testing.assert_allclose(found, inpo_step(game, policy), atol=1e-5)
