# torch.Tensor's methods are typed by Any in many places.
# pyright: reportUnknownMemberType=false
"""Softmax policies trained by the shipped loss, as a trainer would train them: an algorithm's plan with real gradients.

Every ordered pair of responses stands for itself, weighted by how often the sampling policy draws it and, where the
oracle is binary, by how often its first response wins.
"""

import itertools
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax

from shared.inpo.algorithms import algorithm_named
from shared.inpo.games import FiniteGame, softmax
from shared.inpo.objective import Responses, anchored_margin, pair_losses
from shared.inpo.plan import REFERENCE, GeometricMixture, HalfStep, Iterate, Parameters, SamplingPolicy, UniformMixture

Vector = NDArray[np.float64]


class SoftmaxRun:
    """A run of an algorithm over one prompt with n responses; `log_policies` holds its iterates as numpy arrays."""

    def __init__(self, game: FiniteGame, name: str, parameters: Parameters, dtype: torch.dtype = torch.float64) -> None:
        self.game, self.name, self.parameters, self.dtype = game, name, parameters, dtype
        self.log_policies: dict[Iterate, Vector] = {REFERENCE: np.log(game.reference)}
        self._pairs = torch.tensor(list(itertools.product(range(len(game.reference)), repeat=2)))

    def half_steps(self, num_iterations: int) -> Iterator[tuple[Iterate, HalfStep]]:
        """What is to be trained, in order; the caller puts each result into `log_policies` before the next."""
        for iteration in range(1, num_iterations + 1):
            plan = algorithm_named(self.name)(self.parameters, iteration)
            for number, half in enumerate(plan.half_steps, 1):
                yield Iterate(iteration, half=number), half
            self.log_policies[Iterate(iteration)] = self.log_policies[Iterate(iteration, half=len(plan.half_steps))]

    def start(self, half: HalfStep) -> Tensor:
        """Logits that training starts from."""
        return self._tensor(self.log_policies[half.start_from]).requires_grad_()

    def loss(self, half: HalfStep, logits: Tensor) -> Tensor:
        """The expected loss of the half-step over pairs of its sampling policy."""
        mu, theta = self._sampled_from(half.sample_from), log_softmax(logits, dim=-1)
        chosen, rejected = self._pairs[:, 0], self._pairs[:, 1]
        weights = self._tensor(np.outer(mu, mu))[chosen, rejected]
        answers = torch.ones_like(weights)
        rates = self._tensor(self.game.win_rates(mu))
        anchors = [(anchor.exponent, self._tensor(self.log_policies[anchor.iterate])) for anchor in half.anchors]
        responses = None
        if half.needs_win_rates:
            levels = anchored_margin(theta[rejected], [(weight, log_probs[rejected]) for weight, log_probs in anchors])
            responses = Responses(torch.stack([rates[chosen], rates[rejected]]), levels)
        else:
            weights = 2.0 * weights * self._tensor(self.game.preference)[chosen, rejected]
        ratios = [(weight, log_probs[chosen] - log_probs[rejected]) for weight, log_probs in anchors]
        losses = pair_losses(half.loss, half.scale, theta[chosen] - theta[rejected], ratios, answers, responses)
        return (weights * losses.loss).sum()

    def train(self, half: HalfStep) -> Vector:
        """Log-probabilities at the minimum of the loss, by L-BFGS on the logits."""
        logits = self.start(half)
        optimizer = torch.optim.LBFGS(
            [logits], max_iter=500, tolerance_grad=1e-11, tolerance_change=1e-15, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(half, logits)
            loss.backward()
            return loss

        optimizer.step(closure)
        return cast(Vector, log_softmax(logits.detach(), dim=-1).double().numpy())

    def descend(self, half: HalfStep, num_steps: int, learning_rate: float) -> tuple[list[float], Vector]:
        """Losses before each of some plain gradient steps, and the log-probabilities after them."""
        logits, losses = self.start(half), list[float]()
        for _ in range(num_steps):
            loss = self.loss(half, logits)
            losses.append(float(loss.detach()))
            [gradient] = torch.autograd.grad(loss, logits)
            logits = (logits.detach() - learning_rate * gradient).requires_grad_()
        return losses, cast(Vector, log_softmax(logits.detach(), dim=-1).double().numpy())

    def _sampled_from(self, policy: SamplingPolicy) -> Vector:
        match policy:
            case Iterate():
                return np.exp(self.log_policies[policy])
            case UniformMixture():
                return np.mean([np.exp(self.log_policies[iterate]) for iterate in policy.iterates], axis=0)
            case GeometricMixture():
                m = policy.reference_exponent
                return softmax(m * self.log_policies[REFERENCE] + (1.0 - m) * self.log_policies[policy.iterate])

    def _tensor(self, array: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.dtype)
