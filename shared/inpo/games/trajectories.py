"""What an algorithm does in an exact game: its own plan, each half-step replaced by the exact minimiser of its loss.

    squared              (h - (P(y ≻ y') - 1/2) / eta)^2, y, y' ~ mu             anchor · exp(P(· ≻ mu) / eta)
    win_rate_logistic    cross-entropy of eta h with sigma(P(y ≻ mu) - P(y' ≻ mu))    the same
    win_rate_squared     per response (log pi/anchor - (P(y ≻ mu) - 1/2) / eta)^2     the same, or SPPO's loss as it is
    logistic             cross-entropy of beta h with P(y ≻ y')                  anchor · exp(BT fit / beta)

Because it is the shipped plan that is run, what is proven here is proven of what the services carry out.
"""

from dataclasses import fields
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.inpo.algorithms import algorithm_named, check
from shared.inpo.games import inputs
from shared.inpo.games.arrays import Vector, log_of, log_softmax
from shared.inpo.games.bradley_terry import bradley_terry
from shared.inpo.games.finite import FiniteGame
from shared.inpo.games.regressions import sppo_minimiser
from shared.inpo.plan import (
    REFERENCE,
    Algorithm,
    GeometricMixture,
    HalfStep,
    Iterate,
    Parameters,
    SamplingPolicy,
    UniformMixture,
)

Update: TypeAlias = Literal["ideal", "loss"]
UPDATES = ("ideal", "loss")
REFERENCES = {"fixed": "initial", "moving": "previous", "initial": "initial", "previous": "previous"}


def trajectory(
    game: FiniteGame,
    algorithm: str,
    num_iterations: int,
    *,
    start: ArrayLike | None = None,
    update: Update = "ideal",
    **parameters: Any,
) -> NDArray[np.float64]:
    """Policies pi_0, pi_1, ... pi_T of an algorithm by exact updates, shape T + 1 x n; pi_0 is the reference.

    tau is the game's. `parameters` are the algorithm's: `eta` (a number, or "theorem4" for eta_t = tau (t + 2) / 2;
    default tau + 1/2), `prox` (1/2), `mixture` (1/8), `ratio` (tau / eta), `weights` (1, 1), `opponents`, `beta` (4
    tau, which matches the game to first order; 1 at tau = 0), `reference` ("moving", or "fixed"). SPPO takes its ideal
    update; `update="loss"` is the exact minimiser of its loss instead. With `start` the first policy is that one, taken
    for the outcome of a first iteration: the first update is the second's. A ValueError names what does not fit.
    """
    num_iterations = inputs.whole_number("num_iterations", num_iterations)
    if update not in UPDATES:
        raise ValueError(f"update must be `ideal` or `loss`, not {update!r}")
    chosen = algorithm_named(algorithm)
    values = _parameters(game, chosen, parameters)
    check(algorithm, values)
    players, first = _Players(game, update), 0
    if start is not None:
        first = 1
        players.log_policies[Iterate(1)] = players.log_policies[Iterate(1, half=1)] = log_of(game.policy(start))
    for iteration in range(first + 1, first + num_iterations + 1):
        for number, half in enumerate(chosen(values, iteration).half_steps, 1):
            players.log_policies[Iterate(iteration, half=number)] = players.minimiser(half)
            players.log_policies[Iterate(iteration)] = players.log_policies[Iterate(iteration, half=number)]
    return np.exp([players.log_policies[Iterate(first + number)] for number in range(num_iterations + 1)])


class _Players:
    """All iterates so far, as log-probabilities."""

    def __init__(self, game: FiniteGame, update: Update) -> None:
        self._game, self._update = game, update
        self.log_policies: dict[Iterate, Vector] = {REFERENCE: game.log_reference}

    def minimiser(self, half: HalfStep) -> Vector:
        """Log-probabilities of the policy that minimises the half-step's loss over pairs of its sampling policy."""
        log_mu = self.sampled_from(half.sample_from)
        mu = np.exp(log_mu)
        anchor = np.sum([a.exponent * self.log_policies[a.iterate] for a in half.anchors], axis=0)
        advantage: Vector = self._game.advantage @ mu
        if half.loss == "logistic":
            return log_softmax(anchor + bradley_terry(self._game.preference, log_mu) / half.scale)
        if half.loss == "win_rate_squared" and self._update == "loss":
            return log_softmax(anchor + sppo_minimiser(log_mu, advantage / half.scale))
        return log_softmax(anchor + advantage / half.scale)

    def sampled_from(self, policy: SamplingPolicy) -> Vector:
        """Log-probabilities of the sampling policy."""
        match policy:
            case Iterate():
                return self.log_policies[policy]
            case UniformMixture():
                logs = [self.log_policies[iterate] for iterate in policy.iterates]
                return np.logaddexp.reduce(logs, axis=0) - np.log(len(logs))
            case GeometricMixture():
                m = policy.reference_exponent
                return log_softmax(m * self._game.log_reference + (1.0 - m) * self.log_policies[policy.iterate])


def _parameters(game: FiniteGame, chosen: Algorithm, given: dict[str, Any]) -> Parameters:
    """The algorithm's parameters, with defaults for those left out."""
    if "tau" in given:
        raise ValueError("tau is the game's: leave `tau` out, or make another game")
    unknown = sorted(set(given) - {item.name for item in fields(Parameters)})
    if unknown:
        raise ValueError(f"`{unknown[0]}` is no parameter: {chosen.name} takes {', '.join(sorted(chosen.parameters))}")
    values = _defaults(game, chosen, given) | {name: _value(name, value) for name, value in given.items()}
    if values.get("ratio") is not None:
        values.pop("tau", None)
    if values.get("eta") == "theorem4" or ("eta" not in given and values.get("schedule") == "theorem4"):
        values |= {"eta": None, "schedule": "theorem4"}
    return Parameters(**values)


def _defaults(game: FiniteGame, chosen: Algorithm, given: dict[str, Any]) -> dict[str, Any]:
    defaults = {"tau": game.tau, "eta": game.tau + 0.5, "beta": 4.0 * game.tau or 1.0}
    if given.get("schedule") == "theorem4":
        del defaults["eta"]
    return {name: value for name, value in defaults.items() if name in chosen.parameters}


def _value(name: str, value: Any) -> Any:
    """The value as `Parameters` takes it; a ValueError for what is not of its kind."""
    if name == "reference":
        if not isinstance(value, str) or value not in REFERENCES:
            raise ValueError(f"`reference` must be fixed or moving, not {value!r}")
        return REFERENCES[value]
    if value is None or name in ("schedule", "opponents") or (name, value) == ("eta", "theorem4"):
        return value
    if name == "weights":
        if np.ndim(value) != 1:
            raise ValueError(f"`weights` must be several numbers, not {value!r}")
        return tuple(inputs.number("`weights`", weight) for weight in value)
    return inputs.number(f"`{name}`", value, "a number or theorem4" if name == "eta" else "a number")
