"""Nothing is trained unless the policy at the start and those that sampled the pairs are really the plan's.

Two witnesses. The policy's own log-probs must be those stored for the version that training starts from, response by
response; and the sampler's, which came from another program, must agree on average with those of the versions that
sampled. In most half-steps all of them are one version, pi_t.
"""

import numpy as np
from numpy.typing import NDArray

from services.trainer.errors import WrongPolicyError
from services.trainer.forward.log_probs import LogProbs
from services.trainer.forward.sequences import Rows
from services.trainer.optimisation.pairs import Pairs
from shared.contracts.plans import HalfStepPlan
from shared.contracts.weights import Precision, coarsest

# Nats a token by which two right forwards may differ on average over a response: bfloat16 was seen at .007.
TOLERANCES: dict[Precision, float] = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}


def check_step_zero(
    plan: HalfStepPlan,
    pairs: Pairs,
    rows: Rows,
    policy: LogProbs,
    stored: LogProbs,
    sampled: LogProbs,
    precision: Precision = "float32",
) -> dict[str, float]:
    """`step_zero_max_diff` and `witness_mean_diff`, in nats a token.

    `policy` are log pi_theta of the sequences `rows`; `stored` [2N] those of `start_from`, and `sampled` [2N] those of
    each response's own version, both computed here, in `precision`. `WrongPolicyError` when a single response differs
    by more than `training.step_zero_tolerance`, or the sampler on average by more than `training.witness_tolerance`.
    """
    step_zero_tolerance = plan.training.step_zero_tolerance or TOLERANCES[precision]
    witness_tolerance = plan.training.witness_tolerance or TOLERANCES[coarsest(precision, pairs.precision)]
    num_tokens = pairs.sequences.response_lengths
    difference = _per_token(policy, stored[rows], num_tokens[rows])
    worst = int(difference.argmax())
    if not difference[worst] <= step_zero_tolerance:
        row = int(rows[worst])
        raise WrongPolicyError(
            f"the policy to train is not {plan.start_from}: on {_name(pairs, row)} "
            f"its log-prob is {policy[worst]:.6f}, stored is {stored[row]:.6f}, "
            f"{difference[worst]:.3g} nats a token apart; training.step_zero_tolerance is "
            f"{step_zero_tolerance:g}"
        )
    apart = _per_token(sampled, pairs.sampler, num_tokens)
    mean, row = float(apart.mean()), int(apart.argmax())
    if not mean <= witness_tolerance:
        raise WrongPolicyError(
            f"{' or '.join(map(str, plan.samplers))} is not what sampled the pairs: "
            f"the trainer's and the sampler's log-probs differ by "
            f"{mean:.3g} nats a token on average, training.witness_tolerance is {witness_tolerance:g}; "
            f"most on {_name(pairs, row)}: the trainer's is {sampled[row]:.6f}, the sampler's {pairs.sampler[row]:.6f}"
        )
    return {"step_zero_max_diff": float(difference[worst]), "witness_mean_diff": mean}


def _per_token(
    left: NDArray[np.float32], right: NDArray[np.floating], num_tokens: NDArray[np.int64]
) -> NDArray[np.float64]:
    return np.abs(left.astype(np.float64) - right.astype(np.float64)) / num_tokens


def _name(pairs: Pairs, row: int) -> str:
    role = "chosen" if row < len(pairs) else "rejected"
    return f"the {role} response of pair {row % len(pairs)} (prompt {pairs.prompt_ids[row % len(pairs)]})"
