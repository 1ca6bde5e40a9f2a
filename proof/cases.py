"""A case: one run of the demo's language model through the real services, finished once and kept."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proof.games import Game, Judge
from services.cli.demo.run import ETA, NUM_ITERATIONS, demo_spec
from shared.contracts.spec import AlgorithmSpec, RunSpec
from shared.inpo.games import FiniteGame, trajectory

# The win rates of 16 responses each, in place of 64 disjoint pairs of 128.
WIN_RATES = {"sampling": {"num_responses": 16}, "selection": {"method": "all_pairs", "num_pairs": None}}


@dataclass(frozen=True, slots=True)
class Case:
    """An algorithm in a game from a seed; everything else is the demo's, but for `changes` to the specification.

    `judge` answers in place of the game's readers; the duality gap is the game's all the same. `note` says in a word or
    two what is special, for people only.
    """

    game: Game
    algorithm: Mapping[str, Any]
    iterations: int = NUM_ITERATIONS
    seed: int = 0
    judge: Judge | None = None
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    note: str = ""

    @property
    def title(self) -> str:
        """For people: the game, the algorithm with its parameters, what is special, the seed."""
        parts = (self.game.name, label(self.algorithm), self.note, f"seed {self.seed}")
        return " · ".join(part for part in parts if part)

    @property
    def key(self) -> str:
        """Digest of all that decides the outcome but the code."""
        spec = self.spec(Path("/model"), Path("/prompts")).model_dump_json()
        return hashlib.sha256(spec.encode()).hexdigest()[:16]

    def spec(self, model: Path, prompts: Path) -> RunSpec:
        """The run's specification."""
        body = demo_spec("inpo", model, prompts, self.seed, self.iterations).model_dump(mode="json", exclude_unset=True)
        judge = self.judge or self.game.readers
        body |= {"name": self.algorithm["name"].replace("_", "-"), "algorithm": dict(self.algorithm)}
        body["oracle"]["judge"] = judge.spec()
        for part, values in self.changes.items():
            body[part] = {name: value for name, value in (body[part] | values).items() if value is not None}
        return RunSpec.model_validate(body)


def case_of(game: Game, algorithm: Mapping[str, Any], iterations: int = NUM_ITERATIONS, seed: int = 0) -> Case:
    """An algorithm in a game, with the selection that its loss needs."""
    needs_win_rates = AlgorithmSpec.model_validate(algorithm).needs_win_rates
    return Case(game, algorithm, iterations, seed, changes=WIN_RATES if needs_win_rates else {})


def exact_policies(game: FiniteGame, algorithm: Mapping[str, Any], num_iterations: int) -> NDArray[np.float64]:
    """The exact trajectory of an algorithm as a run names it, for the game's tau; see `trajectory`."""
    parameters = {name: value for name, value in algorithm.items() if name not in ("name", "tau")}
    return trajectory(game, algorithm["name"], num_iterations, **parameters)


def label(algorithm: Mapping[str, Any]) -> str:
    """`inpo eta=0.45`: what tells one entry of a table from another; tau is the game's and left out."""
    given = [f"{name}={value}" for name, value in algorithm.items() if name not in ("name", "tau")]
    return " ".join([algorithm["name"], *given])


def inpo(game: Game, eta: float = ETA) -> dict[str, Any]:
    """INPO for a game's tau."""
    return {"name": "inpo", "eta": eta, "tau": game.tau}


def egpo(game: Game, eta: float = ETA) -> dict[str, Any]:
    """EGPO for a game's tau; at eta = tau + 1/2 its plan is Nash-MP's."""
    return {"name": "egpo", "eta": eta, "tau": game.tau}


def dpo(beta: float, reference: str) -> dict[str, Any]:
    """Iterative DPO; the reference is `previous` (moving) or `initial` (fixed)."""
    return {"name": "iterative_dpo", "beta": beta, "reference": reference}
