"""Before the first step: is this really pi_t? Two independent witnesses, or nothing is trained."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from shared.contracts.records import PreferencePair
from shared.inpo.objective import PairLosses

NUM_CHECKED = 64


class WrongPolicyError(ValueError):
    """The weights in training, or those that sampled the pairs, are not the policy pi_t that the plan names."""


def check_witness(pairs: Sequence[PreferencePair], policy: Tensor, tolerance: float) -> dict[str, float]:
    """The sampler's own log-probs [2B] must agree with pi_t's, in mean |difference| a token.

    They were computed by another engine at another time: if they disagree, other weights sampled the responses.
    """
    sampled = torch.tensor([p.chosen_log_prob for p in pairs] + [p.rejected_log_prob for p in pairs])
    tokens = torch.tensor([len(p.chosen_ids) for p in pairs] + [len(p.rejected_ids) for p in pairs])
    difference = (policy - sampled).abs() / tokens
    mean, worst = float(difference.mean()), int(difference.argmax())
    if not mean <= tolerance:
        raise WrongPolicyError(
            f"the sampler's log-probs are {mean:.3g} nats a token away from pi_t's on average, "
            f"training.witness_tolerance is {tolerance:g}: the pairs were sampled by other weights "
            f"(worst: prompt {pairs[worst % len(pairs)].prompt_id}, {float(difference[worst]):.3g})"
        )
    return {"witness_mean_diff": mean, "witness_max_diff": float(difference[worst])}


def check_step_zero(
    pairs: Sequence[PreferencePair],
    policy: Tensor,
    log_probs_of: Callable[[Sequence[int]], Tensor],
    losses_of: Callable[[Sequence[int], Tensor], PairLosses],
    tolerance: float,
) -> dict[str, float]:
    """The model in training must reproduce log pi_t on stored responses before it is changed.

    At iteration 1, where the anchor is pi_t itself, the loss is then exactly 1 / (2 eta) squared.
    """
    stride = max(1, len(pairs) // NUM_CHECKED)
    indices = list(range(0, len(pairs), stride))[:NUM_CHECKED]
    with torch.no_grad():
        current = log_probs_of(indices)
        losses = losses_of(indices, current)
    both = indices + [index + len(pairs) for index in indices]
    tokens = torch.tensor([len(pairs[i].chosen_ids) for i in indices] + [len(pairs[i].rejected_ids) for i in indices])
    difference = (current.cpu() - policy[both]).abs() / tokens
    worst = int(difference.argmax())
    if not float(difference[worst]) <= tolerance:
        raise WrongPolicyError(
            f"before the first step log pi_theta differs from log pi_t by {float(difference[worst]):.3g} nats a token "
            f"on prompt {pairs[both[worst] % len(pairs)].prompt_id}, training.step_zero_tolerance is {tolerance:g}: "
            "the model in training is not the policy that the plan starts from"
        )
    return {"step_zero_loss": float(losses.loss.mean()), "step_zero_max_diff": float(difference[worst])}
