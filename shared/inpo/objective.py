"""The losses on preference pairs, and the log-probabilities that they are made of.

    B pairs (or responses)    T tokens    V vocabulary
    D_q = log q(chosen | prompt) - log q(rejected | prompt)          the log-ratio of policy q, in nats
    h   = D_pi - sum_k exponent_k * D_anchor_k                       the margin over the anchor

Every log-probability is a sum over the response's tokens, the stop token included where the policy produced one. Sums
in 16-bit formats lose whole nats over long responses, so log-ratios are accepted in 32 bits or more only.
"""
# torch.Tensor's methods are typed by Any in many places.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from shared.inpo.plan import LossName

AnchorRatios: TypeAlias = Sequence[tuple[float, Tensor]]


@dataclass(frozen=True, slots=True)
class PairLosses:
    """Of each pair (all of shape B): its loss, with gradient; its margin h and the margin that it aims at, without.

    `target` is None for the loss `logistic`, which pushes the margin of a binary answer without end.
    """

    loss: Tensor
    margin: Tensor
    target: Tensor | None


@dataclass(frozen=True, slots=True)
class Responses:
    """What the `win_rate_…` losses read of a pair's two responses, besides their difference.

    `win_rates` (2 x B: chosen, rejected) are P(y ≻ mu) in [0, 1], mu being the policy that the pairs were sampled from.
    `rejected` (B) is log pi - log anchor of the rejected response, with gradient: `anchored_margin` of its
    log-probabilities in place of log-ratios. Only `win_rate_squared` reads it.
    """

    win_rates: Tensor
    rejected: Tensor | None = None


def pair_losses(
    loss: LossName,
    scale: float,
    log_ratio: Tensor,
    anchors: AnchorRatios,
    preference: Tensor,
    responses: Responses | None = None,
) -> PairLosses:
    """The loss that a half-step names, pair by pair, and the margins.

    `scale` (positive) is beta of the logistic loss, eta of every other. `log_ratio` is D_pi, shape B, with gradient;
    `anchors` are exponents with the anchors' D, each of shape B; `preference`, shape B, holds the oracle's answers for
    chosen against rejected, in [0, 1]; `responses` is needed by the `win_rate_…` losses, which do not read
    `preference`. A ValueError names the argument that does not fit.
    """
    if not scale > 0.0:
        raise ValueError(f"scale (eta or beta) must be positive, not {scale}")
    if preference.shape != log_ratio.shape:
        raise ValueError(f"preference must have log_ratio's shape {_shape(log_ratio)}, not {_shape(preference)}")
    margin = anchored_margin(log_ratio, anchors)
    match loss:
        case "squared":
            target = squared_target(preference, scale)
            return PairLosses(squared_loss(margin, target), margin.detach(), target)
        case "logistic":
            return PairLosses(logistic_loss(margin, scale, preference), margin.detach(), None)
        case "win_rate_logistic":
            gap = _win_rate_gap(loss, responses, log_ratio)
            return PairLosses(logistic_loss(margin, scale, gap.sigmoid()), margin.detach(), gap / scale)
        case "win_rate_squared":
            gap = _win_rate_gap(loss, responses, log_ratio)
            return PairLosses(_win_rate_squared_loss(loss, scale, margin, responses), margin.detach(), gap / scale)


def _win_rate_squared_loss(loss: LossName, eta: float, margin: Tensor, responses: Responses | None) -> Tensor:
    """SPPO's loss, averaged over the pair: (log pi(y)/anchor(y) - (P(y ≻ mu) - 1/2) / eta)^2 (arXiv 2405.00675)."""
    if responses is None or responses.rejected is None:
        raise ValueError(f"the loss {loss} needs the rejected responses' own log-ratios: responses.rejected")
    _check_log_ratio("responses.rejected", responses.rejected, margin)
    chosen = squared_loss(margin + responses.rejected, squared_target(responses.win_rates[0], eta))
    return (chosen + squared_loss(responses.rejected, squared_target(responses.win_rates[1], eta))) / 2


def _win_rate_gap(loss: LossName, responses: Responses | None, log_ratio: Tensor) -> Tensor:
    if responses is None:
        raise ValueError(
            f"the loss {loss} needs the win rates of both responses: selection.method best_worst or all_pairs"
        )
    if responses.win_rates.shape != (2, *log_ratio.shape):
        raise ValueError(f"responses.win_rates must be 2 x {len(log_ratio)}, not {_shape(responses.win_rates)}")
    return responses.win_rates[0] - responses.win_rates[1]


def anchored_margin(log_ratio: Tensor, anchors: AnchorRatios) -> Tensor:
    """The margin h of each pair (shape B): D_pi less the anchor's log-ratio, which gets no gradient.

    With the anchor ref^(tau/eta) · pi_t^(1 - tau/eta) it is INPO's h_t (arXiv 2407.00617, section 3.2).
    """
    _check_log_ratio("log_ratio", log_ratio, log_ratio)
    margin = log_ratio
    for exponent, anchor in anchors:
        _check_log_ratio("an anchor's log-ratio", anchor, log_ratio)
        margin = margin - exponent * anchor.detach()
    return margin


def anchored_squared_loss(log_ratio: Tensor, anchors: AnchorRatios, target: Tensor) -> Tensor:
    """The squared loss of each pair straight from log-ratios: `squared_loss` of `anchored_margin`."""
    return squared_loss(anchored_margin(log_ratio, anchors), target)


def squared_loss(margin: Tensor, target: Tensor) -> Tensor:
    """(h - target)^2 of each pair.

    By the choice of anchor and target it is INPO (Eq. 8), INPO without KL, IPO, or the regression of Nash-MD or EGPO.
    Over i.i.d. pairs of mu its exact minimiser is anchor · exp(P(· ≻ mu) / eta).
    """
    return (margin - target).square()


def squared_target(preference: Tensor, eta: float) -> Tensor:
    """(preference - 1/2) / eta: the paper's 1 / (2 eta) for a binary answer.

    For a probability it has the same minimiser, with less variance.
    """
    return (preference - 0.5) / eta


def logistic_loss(margin: Tensor, beta: float, preference: Tensor) -> Tensor:
    """-(p log sigma(z) + (1 - p) log sigma(-z)) of each pair with z = beta h and preference p: DPO's loss for p = 1."""
    logits = beta * margin
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


def _check_log_ratio(name: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.ndim != 1 or tensor.shape != like.shape:
        raise ValueError(f"{name} must have one entry a pair, as log_ratio {_shape(like)}, not {_shape(tensor)}")
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} must be float32 or float64, not {tensor.dtype}: sum log-probabilities in 32 bits")


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
