# torch's optimizers and transformers' models are only partly typed.
# pyright: reportUnknownMemberType=false
"""Hop 7 of a prompt: preference pairs become the next policy. One iteration of INPO (arXiv 2407.00617, Algorithm 1).

    theta ← pi_t
    D_k   ← log-ratios of the pairs under the anchors, once, fp32
    assert  log pi_theta = log pi_t on the stored tokens, and the sampler agrees
    for each batch:  h = D_theta - sum_k w_k D_k;  minimise (h - 1/(2 eta))^2          (Eq. 8)
    pi_{t+1} ← theta

What differs from the paper: a finite number of AdamW steps stands for the minimiser, so learning rate and epochs, not
eta alone, are the effective step; compare the metric `margin_mean` with 1 / (2 eta).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from torch import Tensor

from services.trainer.checkpoints import Checkpoints
from services.trainer.log_probs import frozen_log_probs, row_log_probs
from services.trainer.models import Models
from services.trainer.sequences import batches, pad, rows_of
from services.trainer.witness import check_step_zero, check_witness
from shared.contracts.plans import HalfStepPlan
from shared.contracts.records import PreferencePair
from shared.contracts.weights import WeightVersion
from shared.inpo.objective import PairLosses, pair_losses
from shared.runtime.telemetry import span

log = structlog.get_logger(__name__)

CHECKPOINT = "training.pt"


class TrainingDivergedError(ArithmeticError):
    """The loss or a gradient is not finite; nothing is published."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """What stays fixed during an iteration. `policy` is log pi_t of the chosen of all pairs, then of the rejected."""

    anchors: list[tuple[float, Tensor]]  # exponent and log-ratios D_k [B]
    policy: Tensor  # [2B]
    preference: Tensor  # [B]


def train_iteration(
    plan: HalfStepPlan, pairs: Sequence[PreferencePair], model: Any, models: Models, checkpoints: Checkpoints
) -> dict[str, float]:
    """Train `model`, which holds pi_t, in place; returns the iteration's metrics.

    Raises `WrongPolicyError` before the first step when the model or the sampler is not pi_t, and
    `TrainingDivergedError` when the loss or a gradient stops being finite.
    """
    with span("log_probs", run=plan.run, iteration=plan.iteration, num_pairs=len(pairs)):
        frozen = _freeze(plan, pairs, models, checkpoints)
        metrics = check_witness(pairs, frozen.policy, plan.training.witness_tolerance)
        metrics |= check_step_zero(
            pairs,
            frozen.policy,
            lambda indices: _log_probs(model, pairs, indices, models.device).detach(),
            lambda indices, log_probs: _losses(plan, frozen, indices, log_probs),
            plan.training.step_zero_tolerance,
        )
    with span("train", run=plan.run, iteration=plan.iteration, num_pairs=len(pairs)):
        metrics |= _optimise(plan, pairs, model, frozen, models, checkpoints)
        metrics |= _shifts(plan, pairs, model, frozen, models)
    return metrics


def log_ratio(log_probs: Tensor) -> Tensor:
    """D [B] from log-probs [2B]: log pi(chosen) - log pi(rejected)."""
    chosen, rejected = log_probs.chunk(2)
    return chosen - rejected


def _freeze(plan: HalfStepPlan, pairs: Sequence[PreferencePair], models: Models, checkpoints: Checkpoints) -> Frozen:
    def under(version: WeightVersion) -> Tensor:
        name = f"log-probs-{version.number}-{version.digest[:16]}.pt"
        known = checkpoints.tensor(name)
        if known is None:
            rows = rows_of(pairs)
            known = frozen_log_probs(models.frozen(version), rows, 2 * plan.training.micro_batch_size, models.device)
            checkpoints.save_tensor(name, known)
        return known

    policy = under(plan.sample_from)
    anchors = [policy if anchor.version == plan.sample_from else under(anchor.version) for anchor in plan.anchors]
    return Frozen(
        anchors=[
            (anchor.exponent, log_ratio(log_probs).to(models.device))
            for anchor, log_probs in zip(plan.anchors, anchors, strict=True)
        ],
        policy=policy,
        preference=torch.tensor([pair.preference for pair in pairs], dtype=torch.float32, device=models.device),
    )


def _log_probs(model: Any, pairs: Sequence[PreferencePair], indices: Sequence[int], device: torch.device) -> Tensor:
    return row_log_probs(model, pad(rows_of([pairs[index] for index in indices]), device))


def _losses(plan: HalfStepPlan, frozen: Frozen, indices: Sequence[int], log_probs: Tensor) -> PairLosses:
    chosen = list(indices)
    anchors = [(exponent, ratios[chosen]) for exponent, ratios in frozen.anchors]
    return pair_losses(plan.loss, plan.scale, log_ratio(log_probs), anchors, frozen.preference[chosen])


def _optimise(
    plan: HalfStepPlan,
    pairs: Sequence[PreferencePair],
    model: Any,
    frozen: Frozen,
    models: Models,
    checkpoints: Checkpoints,
) -> dict[str, float]:
    spec = plan.training
    steps = list(_steps(plan, pairs))
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine_with_warmup(len(steps), spec.warmup_fraction))
    done = _resume(checkpoints, model, optimizer, schedule)
    history: list[dict[str, float]] = []
    for number, batch in enumerate(steps[done:], done + 1):
        history.append(_step(plan, pairs, batch, model, optimizer, frozen, models.device))
        schedule.step()
        if number % spec.checkpoint_every_steps == 0 and number < len(steps):
            checkpoints.save(CHECKPOINT, _state(model, optimizer, schedule, number))
            log.info("training", iteration=plan.iteration, step=number, num_steps=len(steps), **history[-1])
    return {
        "num_pairs": float(len(pairs)),
        "num_steps": float(len(steps)),
        "loss": history[-1]["loss"] if history else math.nan,
        "grad_norm": history[-1]["grad_norm"] if history else math.nan,
    }


def _steps(plan: HalfStepPlan, pairs: Sequence[PreferencePair]) -> Iterator[list[int]]:
    lengths = [len(p.prompt_ids) + max(len(p.chosen_ids), len(p.rejected_ids)) for p in pairs]
    for epoch in range(plan.training.num_epochs):
        yield from batches(lengths, plan.training.batch_size, plan.seed, plan.iteration, plan.half, epoch)


def _step(
    plan: HalfStepPlan,
    pairs: Sequence[PreferencePair],
    batch: list[int],
    model: Any,
    optimizer: torch.optim.Optimizer,
    frozen: Frozen,
    device: torch.device,
) -> dict[str, float]:
    """One optimizer step over a batch of pairs, its gradient accumulated over micro-batches."""
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for start in range(0, len(batch), plan.training.micro_batch_size):
        indices = batch[start : start + plan.training.micro_batch_size]
        losses = _losses(plan, frozen, indices, _log_probs(model, pairs, indices, device))
        loss = losses.loss.sum() / len(batch)
        loss.backward()
        total += float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), plan.training.max_grad_norm))
    if not math.isfinite(total) or not math.isfinite(norm):
        raise TrainingDivergedError(
            f"iteration {plan.iteration}: loss {total}, gradient norm {norm}; lower training.learning_rate"
        )
    optimizer.step()
    return {"loss": total, "grad_norm": norm}


def _shifts(
    plan: HalfStepPlan, pairs: Sequence[PreferencePair], model: Any, frozen: Frozen, models: Models
) -> dict[str, float]:
    """What training did to the pairs: the squared loss fixes ratios, not levels, so both levels are shown."""
    after = frozen_log_probs(model, rows_of(pairs), 2 * plan.training.micro_batch_size, models.device)
    losses = _losses(plan, frozen, range(len(pairs)), after.to(models.device))
    chosen, rejected = (after - frozen.policy).chunk(2)
    return {
        "loss_after": float(losses.loss.mean()),
        "margin_mean": float(losses.margin.mean()),
        "margin_positive_share": float((losses.margin > 0).float().mean()),
        "chosen_log_prob_shift": float(chosen.mean()),
        "rejected_log_prob_shift": float(rejected.mean()),
    }


def cosine_with_warmup(num_steps: int, warmup_fraction: float) -> Callable[[int], float]:
    """Factor of the learning rate at step 0, 1, …: linear warm-up to 1, then half a cosine to 0 after the last step."""
    warmup = math.ceil(num_steps * warmup_fraction)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, num_steps - warmup)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    return factor


def _state(model: Any, optimizer: Any, schedule: Any, step: int) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": {"last_epoch": schedule.last_epoch},
        "step": step,
    }


def _resume(checkpoints: Checkpoints, model: Any, optimizer: Any, schedule: Any) -> int:
    state = checkpoints.load(CHECKPOINT)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    log.info("training_resumed", step=state["step"])
    return int(state["step"])
