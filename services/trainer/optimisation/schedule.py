"""Which pairs an optimizer step sees, and at which learning rate: pure functions of the plan and the step's number."""

import math

import numpy as np
from numpy.typing import NDArray

from services.trainer.forward.sequences import Rows
from shared.contracts.plans import HalfStepPlan
from shared.contracts.spec import TrainingSpec
from shared.inpo.seeds import seed_of


class Schedule:
    """The optimizer steps of a half-step, each a list of micro-batches of pair numbers.

    Every epoch is a seeded shuffle cut into steps that differ by at most one pair. Length only decides which pairs of
    a step share a forward, never which pairs share a step: batches stay uniform samples, whatever the lengths mean.
    """

    def __init__(self, plan: HalfStepPlan, lengths: NDArray[np.int64]) -> None:
        self._plan = plan
        self._lengths = lengths
        self._steps_per_epoch = math.ceil(len(lengths) / plan.training.batch_size)
        self._shuffled: tuple[int, list[Rows]] = (-1, [])

    @property
    def num_steps(self) -> int:
        """Optimizer steps in all."""
        return self._steps_per_epoch * self._plan.training.num_epochs

    def micro_batches(self, step: int, num_ranks: int = 1) -> list[Rows]:
        """The pairs of optimizer step `step`, counted from 0, in groups of similar length.

        The number of groups is a multiple of `num_ranks`, so that every rank has the same number of forwards; groups
        are empty where a step has fewer pairs than ranks.
        """
        epoch, position = divmod(step, self._steps_per_epoch)
        if self._shuffled[0] != epoch:
            self._shuffled = (epoch, self._shuffle(epoch))
        pairs = self._shuffled[1][position]
        ordered = pairs[np.argsort(self._lengths[pairs], kind="stable")]
        num_forwards = math.ceil(len(ordered) / (num_ranks * self._plan.training.micro_batch_size))
        return np.array_split(ordered, num_ranks * num_forwards)

    def _shuffle(self, epoch: int) -> list[Rows]:
        key = seed_of("pair order", self._plan.seed, self._plan.iteration, self._plan.half, epoch)
        order = np.random.Generator(np.random.Philox(key=key)).permutation(len(self._lengths))
        return np.array_split(order, self._steps_per_epoch)


def learning_rate(spec: TrainingSpec, step: int, num_steps: int) -> float:
    """Linear warm-up over `warmup_fraction` of the steps, then half a cosine towards 0; never 0 itself."""
    warmup = math.ceil(spec.warmup_fraction * num_steps)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
