"""The two games that are proven on, and the judges that answer in them.

A game's actions are what `services.oracle.rules.styles` reads in a response: invalid, and the three styles. The demo's
model is the reference policy; its measured shares make the game exact.
"""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from services.cli.demo.report import smoothed_shares
from services.oracle.rules import styles
from shared.inpo.games import FiniteGame, Vector
from shared.inpo.games.bradley_terry import bradley_terry


class Judge(Protocol):
    """Answers comparisons in a run: as the specification says it, and as the matrix that it plays."""

    def spec(self) -> dict[str, Any]:
        """`oracle.judge` of a run."""
        ...

    def matrix(self) -> Vector:
        """`matrix[a, b]` = P(action a beats action b)."""
        ...


@dataclass(frozen=True, slots=True)
class Readers:
    """A population whose majority is cyclic: 1 beats 2, 2 beats 3, 3 beats 1, and all beat an invalid response."""

    first_over_second: float
    second_over_third: float
    third_over_first: float
    any_over_invalid: float = 0.95

    def spec(self) -> dict[str, Any]:
        """See `Judge.spec`."""
        entry_point = "services.oracle.rules.styles:cyclic_panel"
        return {"kind": "rules", "entry_point": entry_point, "params": asdict(self)}

    def matrix(self) -> Vector:
        """See `Judge.matrix`."""
        return np.array(styles.preference_matrix(**asdict(self)))

    def mistaken(self, share: float) -> "Readers":
        """The same readers, each answer turned round with this probability."""
        return Readers(**{name: (1.0 - 2.0 * share) * value + share for name, value in asdict(self).items()})


@dataclass(frozen=True, slots=True)
class Rewards:
    """A Bradley-Terry reward for each action: P(a beats b) = sigma(r_a - r_b)."""

    rewards: tuple[float, ...]

    @classmethod
    def fitted(cls, preference: Vector, policy: Vector) -> "Rewards":
        """The population's maximum-likelihood fit to the preferences between a policy's responses."""
        return cls(tuple(round(float(reward), 6) for reward in bradley_terry(preference, np.log(policy))))

    def spec(self) -> dict[str, Any]:
        """See `Judge.spec`."""
        params = dict(zip(styles.STYLE_NAMES, self.rewards, strict=True))
        return {"kind": "rules", "entry_point": "services.oracle.rules.styles:reward_panel", "params": params}

    def matrix(self) -> Vector:
        """See `Judge.matrix`."""
        rewards = np.array(self.rewards)
        return 1.0 / (1.0 + np.exp(rewards[None, :] - rewards[:, None]))


@dataclass(frozen=True, slots=True)
class Game:
    """Who the readers are, and the tau whose Nash policy is wanted."""

    name: str
    title: str
    readers: Readers
    tau: float

    def around(self, reference_counts: Vector, judge: Judge | None = None, tau: float | None = None) -> FiniteGame:
        """The exact game around a reference policy that gave these actions so often; another judge's where named."""
        matrix = (judge or self.readers).matrix()
        return FiniteGame(matrix, smoothed_shares(reference_counts), self.tau if tau is None else tau)


DEMO = Game("demo", "The demo's game: cycle .95/.9/.8, tau .15", Readers(0.95, 0.9, 0.8), 0.15)
SYMMETRIC = Game("symmetric", "The symmetric cycle .9/.9/.9, tau .1", Readers(0.9, 0.9, 0.9), 0.1)
