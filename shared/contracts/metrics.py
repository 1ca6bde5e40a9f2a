"""What is measured of every iteration: the names in a commit's `metrics`, in one place.

Of an iteration with two half-steps they are those of the second; the first's carry `half_1_` before their name. Means
over pairs are over at most 32 of them, evenly spread. Log-probs are sums over a response's tokens, in nats.
"""

from collections.abc import Mapping

METRICS: Mapping[str, str] = {
    "num_pairs": "pairs trained on",
    "num_steps": "optimizer steps",
    "loss": "mean loss after training",
    "loss_first": "loss of the first optimizer step",
    "loss_last": "loss of the last optimizer step",
    "step_zero_loss": "mean loss before training",
    "margin_mean": "mean h = D_pi - anchors' D after training; D = log pi(chosen) - log pi(rejected)",
    "target_mean": "what margin_mean would be at the loss's minimum: mean (preference - 1/2) / eta",
    "margin_positive_share": "share of pairs with h > 0",
    "log_ratio_abs_mean": "mean |D_pi| after training",
    "chosen_log_prob_shift": "mean change of log pi(chosen) by training; below 0 the likelihood is displaced",
    "rejected_log_prob_shift": "mean change of log pi(rejected) by training",
    "grad_norm": "gradient norm of the last optimizer step, before clipping",
    "grad_norm_max": "largest gradient norm of any optimizer step, before clipping",
    "learning_rate_peak": "highest learning rate of the schedule",
    "step_zero_max_diff": "largest difference a token between the policy to train and pi_t, before training",
    "witness_mean_diff": "mean difference a token between the trainer's and the sampler's log-probs",
    "identical_pair_share": "pairs dropped because both responses are the same, of those and the pairs kept",
    "unjudged_share": "comparisons without a verdict",
    "effective_sample_size_min": "of responses resampled from proposals: the smallest of any prompt",
    "effective_sample_size_mean": "of responses resampled from proposals: the mean over prompts",
    "seconds": "from the iteration's plan to its commit",
    "train_s": "of the trainer, all of it",
}
