"""What a finished case measured, as a file of its own; everything else is computed from it when the page is written."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from proof.cases import Case, exact_policies, label
from services.cli.demo.report import smoothed_shares
from shared.inpo.games import Vector, kl


class Iterate(BaseModel):
    """A weight version. `counts` are its responses by action, `comparisons` the oracle's work of its iteration.

    `log_ratio_max` is the largest |log pi - log ref| of any sampled response, in nats; `metrics` are the commit's.
    """

    model_config = ConfigDict(frozen=True)

    counts: tuple[int, ...]
    mean_response_tokens: float
    kl: float | None
    log_ratio_max: float
    comparisons: int
    judging_s: float
    metrics: dict[str, float]


class CaseResult(BaseModel):
    """A finished case. `seconds` are from its creation to its end, `oracle_bytes` its oracle's peak memory."""

    model_config = ConfigDict(frozen=True)

    title: str
    commit: str
    seconds: float
    oracle_bytes: int
    iterates: list[Iterate]


class Course:
    """A finished case against its exact game: rows 0 … T, row 0 the reference policy."""

    def __init__(self, case: Case, result: CaseResult) -> None:
        self.case, self.result = case, result
        self.counts = [np.array(iterate.counts, dtype=np.float64) for iterate in result.iterates]
        self.policies = [smoothed_shares(counts) for counts in self.counts]
        self.game = case.game.around(self.counts[0])

    @property
    def label(self) -> str:
        """The algorithm with its parameters."""
        return label(self.case.algorithm)

    @cached_property
    def gaps(self) -> Vector:
        """Duality gap of each iterate in the exact game."""
        return np.array([self.game.duality_gap(policy) for policy in self.policies])

    @cached_property
    def kls(self) -> Vector:
        """KL(Nash || iterate)."""
        return np.array([self.game.kl_to_nash(policy) for policy in self.policies])

    @cached_property
    def exact(self) -> NDArray[np.float64]:
        """The algorithm's exact trajectory in the game that its judge plays; an ArithmeticError where there is none."""
        played = self.case.game.around(self.counts[0], self.case.judge)
        return exact_policies(played, self.case.algorithm, len(self.policies) - 1)

    @cached_property
    def exact_gaps(self) -> Vector:
        """Duality gap of the exact trajectory."""
        return np.array([self.game.duality_gap(policy) for policy in self.exact])

    @cached_property
    def kls_to_exact(self) -> Vector:
        """KL(exact iterate || measured iterate)."""
        return np.array([kl(exact, mine) for exact, mine in zip(self.exact, self.policies, strict=True)])

    def mixture_gap(self, upto: int | None = None) -> float:
        """Duality gap of the uniform mixture of versions 0 … upto, a version drawn for each response."""
        last = len(self.counts) if upto is None else upto + 1
        shares = [counts / counts.sum() for counts in self.counts[:last]]
        mean = np.mean(shares, axis=0) * self.counts[0].sum()
        return self.game.duality_gap(smoothed_shares(mean))


class Results:
    """The results of a folder, by case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, case: Case) -> bool:
        """Whether the case has been finished."""
        return self._path(case).exists()

    def put(self, case: Case, result: CaseResult) -> None:
        """Keep a result: whole, or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        building = self._path(case).with_suffix(".part")
        building.write_text(result.model_dump_json(indent=1) + "\n")
        building.replace(self._path(case))

    def course(self, case: Case) -> Course:
        """A finished case; a `KeyError` for another."""
        if not self.has(case):
            raise KeyError(case.title)
        return Course(case, CaseResult.model_validate_json(self._path(case).read_bytes()))

    def finished(self, cases: Sequence[Case]) -> list[Course]:
        """Those of the cases that have been finished, in their order."""
        return [self.course(case) for case in cases if self.has(case)]

    def _path(self, case: Case) -> Path:
        return self.folder / f"{case.key}.json"
