# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""One half-step of the algorithm, on one page.

    pairs → log pi of pi_t and of every anchor, once → is theta = pi_t? → epochs of batches → loss → AdamW → theta

Every rank of a training group walks the page, with its share of each step's pairs: a loss is divided by the number of
all pairs of the step, so that gradients add up to the single process's.

The loss is the plan's: for INPO (h_t - 1/(2 eta))^2 with h_t = D_theta - (tau/eta) D_ref - (1 - tau/eta) D_{pi_t},
D = log pi(chosen) - log pi(rejected) (arXiv 2407.00617, Eq. 8). Shapes: N pairs, B pairs of a forward.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.trainer.checkpoints.workspace import Checkpoints
from services.trainer.errors import TrainingDivergedError
from services.trainer.forward.log_probs import Compute, LogProbs, batch_log_probs, log_probs_of
from services.trainer.forward.sequences import Rows
from services.trainer.optimisation.pairs import Pairs
from services.trainer.optimisation.probe import Probe
from services.trainer.optimisation.schedule import Schedule, learning_rate
from services.trainer.optimisation.strategies import MakeStrategy, Strategy
from services.trainer.optimisation.strategies.single import SingleProcess
from services.trainer.weights.canary_recording import CanaryStart, canary_start
from services.trainer.weights.models import PolicySource
from shared.contracts.plans import HalfStepPlan
from shared.contracts.weights import WeightVersion
from shared.inpo.objective import PairLosses, Responses, anchored_margin, pair_losses
from shared.runtime.telemetry import span

log = structlog.get_logger(__name__)

NUM_LOG_LINES = 10


@dataclass(frozen=True, slots=True)
class Iteration:
    """What one half-step works with."""

    plan: HalfStepPlan
    pairs: Pairs
    policies: PolicySource
    workspace: Checkpoints
    compute: Compute
    strategy: MakeStrategy = SingleProcess


@dataclass(frozen=True, slots=True)
class Trained:
    """What a half-step makes: the policy in one piece (rank 0's only), its canary before the step, and measurements."""

    policy: nn.Module | None
    canary: CanaryStart
    metrics: dict[str, float]


def train(iteration: Iteration) -> Trained:
    """The trained policy and what was measured on the way; the same for the same work, however often interrupted.

    `WrongPolicyError` before anything is trained, `TrainingDivergedError` when a loss, a gradient or a weight is not
    finite.
    """
    plan, pairs, compute = iteration.plan, iteration.pairs, iteration.compute
    with span("log_probs", run=plan.run, iteration=plan.iteration, half=plan.half):
        log_probs = dict(frozen_log_probs(iteration))
        sampled = sampled_log_probs(iteration, log_probs)
    # The frozen policies are gone by now: one at a time is in memory, and beside theta and its optimizer none.
    strategy = iteration.strategy(iteration.policies.take(plan.start_from), plan.training)
    objective = Objective(plan, pairs, log_probs, compute.device)
    probe = Probe(plan, pairs, strategy.policy, objective, compute)
    metrics = {"num_pairs": float(len(pairs)), **probe.before(log_probs[plan.start_from.digest], sampled)}
    canary = canary_start(strategy.policy, pairs.sequences, compute.device)
    with span("train", run=plan.run, iteration=plan.iteration, half=plan.half):
        metrics |= optimise(iteration, objective, strategy)
    broken = strategy.non_finite()
    if broken is not None:
        raise TrainingDivergedError(f"tensor {broken} holds NaN or infinity: lower training.learning_rate")
    metrics |= probe.after(log_probs[plan.start_from.digest])
    policy = strategy.whole(lambda: iteration.policies.in_host_memory(plan.start_from))
    return Trained(policy, canary, metrics)


def frozen_log_probs(iteration: Iteration) -> Iterator[tuple[str, LogProbs]]:
    """The log pi [2N] of the start and of every anchor, by digest; each version is loaded, read once and let go.

    The start is loaded anew although theta should be the same: that is what step 0 asserts.
    """
    plan, sequences = iteration.plan, iteration.pairs.sequences
    wanted = [plan.start_from, *(anchor.version for anchor in plan.anchors)]
    for version in {version.digest: version for version in wanted}.values():

        def compute(version: WeightVersion = version) -> LogProbs:
            return log_probs_of(
                iteration.policies.frozen(version, anew=True), sequences, iteration.compute, name=str(version)
            )

        yield version.digest, iteration.workspace.log_probs(version, len(sequences), compute)


def sampled_log_probs(iteration: Iteration, frozen: dict[str, LogProbs]) -> LogProbs:
    """The log pi [2N] of each response under the version that sampled it: what the sampler's are compared with.

    `frozen` are the log-probs [2N] that are there already, by digest; other versions read their own responses only.
    """
    pairs = iteration.pairs
    found = np.zeros(len(pairs.sequences), dtype=np.float32)
    for version in iteration.plan.samplers:
        rows = np.flatnonzero(pairs.sampled_by == version.number)
        if version.digest in frozen:
            found[rows] = frozen[version.digest][rows]
        elif len(rows):

            def compute(version: WeightVersion = version, rows: Rows = rows) -> LogProbs:
                policy = iteration.policies.frozen(version, anew=True)
                return log_probs_of(policy, pairs.sequences, iteration.compute, name=str(version), rows=rows)

            found[rows] = iteration.workspace.log_probs(version, len(rows), compute)
    return found


class Objective:
    """The plan's loss as a function of theta's log-probs; everything frozen is a few numbers a pair."""

    def __init__(self, plan: HalfStepPlan, pairs: Pairs, log_probs: dict[str, LogProbs], device: torch.device) -> None:
        def halves(values: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(values.reshape(2, -1)).to(device)

        self._plan = plan
        self._anchors = [(anchor.exponent, halves(log_probs[anchor.version.digest])) for anchor in plan.anchors]
        self._preference = torch.from_numpy(pairs.preference).to(device)
        self._win_rates = None if pairs.win_rates is None else halves(pairs.win_rates)

    def __call__(self, chosen: Tensor, rejected: Tensor, pairs: Rows) -> PairLosses:
        """Losses and margins [B] of these pairs, given log pi_theta of their chosen and rejected responses [B]."""
        index = torch.from_numpy(pairs).to(chosen.device)
        anchors = [(weight, frozen[:, index]) for weight, frozen in self._anchors]
        ratios = [(weight, frozen[0] - frozen[1]) for weight, frozen in anchors]
        responses = None
        if self._win_rates is not None:
            own = anchored_margin(rejected, [(weight, frozen[1]) for weight, frozen in anchors])
            responses = Responses(self._win_rates[:, index], own)
        preference = self._preference[index]
        return pair_losses(self._plan.loss, self._plan.scale, chosen - rejected, ratios, preference, responses)


def optimise(iteration: Iteration, objective: Objective, strategy: Strategy) -> dict[str, float]:
    """All optimizer steps, going on from the last checkpoint. Losses and norms are those of all ranks together."""
    spec, ranks = iteration.plan.training, iteration.compute.ranks
    schedule = Schedule(iteration.plan, iteration.pairs.lengths())
    num_steps = schedule.num_steps
    first, metrics = iteration.workspace.restore(strategy.restore)
    for step in range(first, num_steps):
        micro_batches = schedule.micro_batches(step, ranks.num)
        losses = accumulate(iteration, objective, strategy, micro_batches)
        loss = float(ranks.sum(losses.cpu()))
        metrics = _observe(metrics, step, num_steps, loss, strategy.update(learning_rate(spec, step, num_steps)))
        if (step + 1) % spec.checkpoint_every_steps == 0 and step + 1 < num_steps:
            iteration.workspace.save(step + 1, strategy.state(), metrics)
    return {**metrics, "num_steps": float(num_steps), "learning_rate_peak": spec.learning_rate}


def accumulate(iteration: Iteration, objective: Objective, strategy: Strategy, micro_batches: list[Rows]) -> Tensor:
    """Add up this rank's share of a step's gradient; its share of the step's loss, a scalar."""
    compute, pairs = iteration.compute, iteration.pairs
    num = sum(len(batch) for batch in micro_batches)
    losses = torch.zeros((), device=compute.device)
    for batch in micro_batches[compute.ranks.rank :: compute.ranks.num]:
        # A rank without a pair of its own takes part in the others' forward with one that does not count.
        rows, weight = (batch, 1.0) if len(batch) else (micro_batches[0], 0.0)
        sequences = pairs.sequences.batch(pairs.rows(rows), compute.device)
        chosen, rejected = batch_log_probs(strategy.policy, sequences, compute).chunk(2)
        loss = objective(chosen, rejected, rows).loss.sum() * weight / num
        strategy.backward(loss)
        losses += loss.detach()
    return losses


def _observe(metrics: dict[str, float], step: int, num_steps: int, loss: float, grad_norm: float) -> dict[str, float]:
    if not math.isfinite(loss):
        raise TrainingDivergedError(f"the loss is {loss} at optimizer step {step + 1}: lower training.learning_rate")
    if step % max(1, num_steps // NUM_LOG_LINES) == 0 or step + 1 == num_steps:
        log.info("optimizer_step", step=step + 1, num_steps=num_steps, loss=loss, grad_norm=grad_norm)
    return {
        "loss_first": metrics.get("loss_first", loss),
        "loss_last": loss,
        "grad_norm": grad_norm,
        "grad_norm_max": max(metrics.get("grad_norm_max", 0.0), grad_norm),
    }
