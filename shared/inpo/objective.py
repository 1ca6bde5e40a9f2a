"""The losses on preference pairs, and the log-probabilities that they are made of.

    B pairs (or responses)    T tokens    V vocabulary    A anchors
    D_q = log q(chosen | prompt) - log q(rejected | prompt)          the log-ratio of policy q, in nats
    h   = D_pi - sum_k exponent_k * D_anchor_k                       the margin over the anchor

Every log-probability is a sum over the response's tokens, the stop token included where the policy produced one. Sums
in 16-bit formats lose whole nats over long responses, so log-ratios are accepted in 32 bits or more only.
"""
# torch.Tensor's methods are typed by Any in many places.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from shared.inpo.plan import LossName


@dataclass(frozen=True, slots=True)
class PairLosses:
    """Of each pair (both of shape B): its loss, with gradient, and its margin h, without."""

    losses: Tensor
    margins: Tensor


def pair_losses(
    loss: LossName,
    scale: float,
    log_ratio: Tensor,
    anchor_log_ratios: Tensor,
    exponents: Sequence[float],
    preference: Tensor,
) -> PairLosses:
    """The loss that a half-step names, pair by pair, and the margins.

    `scale` (positive) is eta of the squared loss, beta of the logistic one. `log_ratio` is D_pi, shape B, with
    gradient; `anchor_log_ratios` are the anchors' D, shape A x B, with A `exponents`; `preference`, shape B, holds the
    oracle's answers for chosen against rejected, in [0, 1]. A ValueError names the argument that does not fit.
    """
    if not scale > 0.0:
        raise ValueError(f"scale (eta or beta) must be positive, not {scale}")
    if preference.shape != log_ratio.shape:
        raise ValueError(f"preference must have log_ratio's shape {_shape(log_ratio)}, not {_shape(preference)}")
    margins = anchored_margin(log_ratio, anchor_log_ratios, exponents)
    match loss:
        case "squared":
            losses = squared_loss(margins, squared_target(preference, scale))
        case "logistic":
            losses = logistic_loss(margins, scale, preference)
    return PairLosses(losses, margins.detach())


def anchored_margin(log_ratio: Tensor, anchor_log_ratios: Tensor, exponents: Sequence[float]) -> Tensor:
    """The margin h of each pair (shape B): D_pi less the anchor's log-ratio, which gets no gradient.

    With the anchor ref^(tau/eta) · pi_t^(1 - tau/eta) it is INPO's h_t (arXiv 2407.00617, section 3.2).
    """
    if log_ratio.ndim != 1 or anchor_log_ratios.shape != (len(exponents), *log_ratio.shape):
        raise ValueError(
            f"log_ratio must have shape B and anchor_log_ratios shape A x B with A = {len(exponents)} exponents, "
            f"not {_shape(log_ratio)} and {_shape(anchor_log_ratios)}"
        )
    for name, tensor in (("log_ratio", log_ratio), ("anchor_log_ratios", anchor_log_ratios)):
        if tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} must be float32 or float64, not {tensor.dtype}: sum log-probabilities in 32 bits")
    margins = log_ratio
    for exponent, anchor_log_ratio in zip(exponents, anchor_log_ratios.detach(), strict=True):
        margins = margins - exponent * anchor_log_ratio
    return margins


def anchored_squared_loss(
    log_ratio: Tensor, anchor_log_ratios: Tensor, exponents: Sequence[float], target: Tensor
) -> Tensor:
    """The squared loss of each pair straight from log-ratios: `squared_loss` of `anchored_margin`."""
    return squared_loss(anchored_margin(log_ratio, anchor_log_ratios, exponents), target)


def squared_loss(margins: Tensor, target: Tensor) -> Tensor:
    """(h - target)^2 of each pair.

    By the choice of anchor and target it is INPO (Eq. 8), INPO without KL, IPO, or the regression of Nash-MD or EGPO.
    Over i.i.d. pairs of mu its exact minimiser is anchor · exp(P(· ≻ mu) / eta).
    """
    return (margins - target).square()


def squared_target(preference: Tensor, eta: float) -> Tensor:
    """(preference - 1/2) / eta: the paper's 1 / (2 eta) for a binary answer.

    For a probability it has the same minimiser, with less variance.
    """
    return (preference - 0.5) / eta


def logistic_loss(margins: Tensor, beta: float, preference: Tensor) -> Tensor:
    """-(p log sigma(z) + (1 - p) log sigma(-z)) of each pair with z = beta h and preference p: DPO's loss for p = 1."""
    logits = beta * margins
    return -(preference * logsigmoid(logits) + (1.0 - preference) * logsigmoid(-logits))


def response_log_probs(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The log-probability of each response (shape B): the sum over its tokens, in 32 bits.

    As `token_log_probs`; a row without any response token is a ValueError.
    """
    log_probs = token_log_probs(logits, targets, mask)
    empty = ~mask.any(dim=-1)
    if empty.any():
        rows = empty.nonzero().flatten()
        raise ValueError(f"mask selects no token in the rows {rows.tolist()}: an empty response has no log-probability")
    return log_probs.sum(dim=-1)


def token_log_probs(logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """The log-probability of each target token, in 32 bits, shape B x T; 0 where the mask is False.

    `logits` (B x T x V) at t predict `targets` (B x T) at t: the caller has shifted them by one. `mask` (B x T) is True
    (or 1) on the response's tokens; None takes every position. Only positions under the mask are read: whatever stands
    in the logits and targets of prompt and padding, NaN included, reaches neither the result nor the gradient.
    """
    if mask is None:
        mask = torch.ones_like(targets, dtype=torch.bool)
    if logits.ndim != 3 or targets.shape != logits.shape[:2] or mask.shape != logits.shape[:2]:
        raise ValueError(
            "logits must be B x T x V, targets and mask B x T, "
            f"not {_shape(logits)}, {_shape(targets)} and {_shape(mask)}"
        )
    positions = mask.flatten().nonzero().squeeze(-1)
    selected = logits.flatten(0, 1).index_select(0, positions)
    if selected.dtype not in (torch.float32, torch.float64):
        selected = selected.float()
    chosen = selected.gather(-1, targets.flatten()[positions].unsqueeze(-1)).squeeze(-1)
    log_probs = chosen - selected.logsumexp(dim=-1)
    return log_probs.new_zeros(mask.numel()).index_copy(0, positions, log_probs).view(mask.shape)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
