# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""What training did to the policy, measured on a sample of the pairs before the first step and after the last one."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from services.trainer.forward.log_probs import Compute, LogProbs, log_probs_of
from services.trainer.forward.sequences import Rows
from services.trainer.optimisation.pairs import Pairs
from services.trainer.optimisation.policy_check import check_step_zero
from shared.contracts.plans import HalfStepPlan
from shared.inpo.objective import PairLosses

# A policy that is not the plan's is another one on every response, so a few tell; each costs two forwards a half-step.
NUM_PROBES = 32


class Probe:
    """At most `NUM_PROBES` pairs, evenly spread; `losses` maps log-probs [B] of both responses to losses."""

    def __init__(
        self,
        plan: HalfStepPlan,
        pairs: Pairs,
        theta: nn.Module,
        losses: Callable[[Tensor, Tensor, Rows], PairLosses],
        compute: Compute,
    ) -> None:
        self._plan = plan
        self._pairs = pairs
        self._theta = theta
        self._losses = losses
        self._compute = compute
        self._sample = evenly_spread(len(pairs))
        self._rows = pairs.rows(self._sample)

    def before(self, start: LogProbs, sampled: LogProbs) -> dict[str, float]:
        """Step 0: raises `WrongPolicyError` unless theta is where the plan starts and the pairs are its samplers'.

        `start` and `sampled` [2N] are the log-probs of `start_from` and of each response's own version.
        """
        log_probs = self._log_probs()
        checks = check_step_zero(
            self._plan, self._pairs, self._rows, log_probs, start, sampled, self._compute.precision
        )
        return {"step_zero_loss": _mean(self._measure(log_probs).loss), **checks}

    def after(self, start: LogProbs) -> dict[str, float]:
        """Margins against their target, and how far log pi has moved since `start` [2N] on either kind of response.

        The loss fixes differences, not levels: chosen responses may become less likely, too, only less so.
        """
        log_probs = self._log_probs()
        losses = self._measure(log_probs)
        chosen, rejected = np.split((log_probs - start[self._rows]).astype(np.float64), 2)
        return {
            **({} if losses.target is None else {"target_mean": _mean(losses.target)}),
            "loss": _mean(losses.loss),
            "margin_mean": _mean(losses.margin),
            "margin_positive_share": _mean(losses.margin > 0),
            "log_ratio_abs_mean": self._log_ratio_abs_mean(log_probs),
            "chosen_log_prob_shift": float(chosen.mean()),
            "rejected_log_prob_shift": float(rejected.mean()),
        }

    def _log_probs(self) -> LogProbs:
        name = f"{self._plan.start_from} in training"
        return log_probs_of(self._theta, self._pairs.sequences, self._compute, name=name, rows=self._rows)

    def _measure(self, log_probs: LogProbs) -> PairLosses:
        chosen, rejected = np.split(log_probs, 2)
        device = self._compute.device
        return self._losses(torch.from_numpy(chosen).to(device), torch.from_numpy(rejected).to(device), self._sample)

    def _log_ratio_abs_mean(self, log_probs: LogProbs) -> float:
        chosen, rejected = np.split(log_probs.astype(np.float64), 2)
        return float(np.abs(chosen - rejected).mean())


def evenly_spread(num_pairs: int) -> Rows:
    """Indices of all pairs, or of `NUM_PROBES` of them from the first to the last, ascending."""
    return np.linspace(0, num_pairs - 1, min(num_pairs, NUM_PROBES)).astype(np.int64)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
