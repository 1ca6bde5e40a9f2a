# torch.Tensor's methods are typed by Any in many places.
# pyright: reportUnknownMemberType=false
"""The losses on preference pairs, each worked out by hand."""

import math
from typing import cast

import pytest
import torch
from torch import Tensor

from shared.inpo.objective import (
    Responses,
    anchored_margin,
    anchored_squared_loss,
    logistic_loss,
    pair_losses,
    response_log_probs,
    squared_target,
    token_log_probs,
)
from shared.inpo.plan import LossName


def of(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def test_the_margin_is_the_log_ratio_less_the_weighted_anchors() -> None:
    """3 - (1/3) 1.5 - (2/3) (-0.75) = 3 - 0.5 + 0.5 = 3."""
    margin = anchored_margin(of(3.0), [(1 / 3, of(1.5)), (2 / 3, of(-0.75))])
    torch.testing.assert_close(margin, of(3.0))


def test_the_squared_loss_is_inpo_eq_8_for_a_binary_answer() -> None:
    """With eta = .25: target 1 / (2 eta) = 2. Margins 1 and 2 give (1 - 2)^2 = 1 and 0."""
    result = pair_losses("squared", 0.25, of(1.5, 1.0), [(1.0, of(0.5, -1.0))], of(1.0, 1.0))
    torch.testing.assert_close(result.loss, of(1.0, 0.0))
    torch.testing.assert_close(result.margin, of(1.0, 2.0))
    torch.testing.assert_close(result.target, of(2.0, 2.0))


def test_the_logistic_loss_has_no_target() -> None:
    assert pair_losses("logistic", 0.1, of(1.0), [], of(1.0)).target is None


def test_the_target_of_a_probability_is_its_distance_to_one_half_over_eta() -> None:
    """(.75 - .5) / .1 = 2.5, a tie 0, a certain loss -5."""
    torch.testing.assert_close(squared_target(of(0.75, 0.5, 0.0), 0.1), of(2.5, 0.0, -5.0))


def test_the_loss_is_zero_when_the_margin_equals_half_over_eta() -> None:
    loss = anchored_squared_loss(of(66.0 + 2 / 3), [], squared_target(of(1.0), 0.0075))
    torch.testing.assert_close(loss, of(0.0))


def test_at_the_first_step_the_loss_is_the_square_of_half_over_eta() -> None:
    """Where pi = pi_t = ref: h = 0 whatever the log-ratio is, and with eta = .0075 the loss is (66.67)^2 = 4444.4."""
    log_ratio = of(-12.5, 0.0, 300.0, dtype=torch.float32)
    result = pair_losses("squared", 0.0075, log_ratio, [(1.0, log_ratio)], torch.ones(3))
    torch.testing.assert_close(result.margin, torch.zeros(3))
    torch.testing.assert_close(result.loss, torch.full((3,), 4444.4444), rtol=1e-6, atol=0.0)


def test_before_training_the_margin_is_tau_over_eta_of_the_drift_from_the_reference() -> None:
    """Where pi = pi_t: h = D_t - (1/3) D_ref - (2/3) D_t = (1/3) (D_t - D_ref) = (1/3) (2 - (-1)) = 1."""
    policy, reference = of(2.0), of(-1.0)
    torch.testing.assert_close(anchored_margin(policy, [(1 / 3, reference), (2 / 3, policy)]), of(1.0))


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_exchanging_chosen_and_rejected_changes_nothing(loss: LossName) -> None:
    """All log-ratios change sign and p becomes 1 - p: the loss is the same, so who is called chosen is a convention."""
    policy, anchor, preference = of(0.3, -1.2), of(0.1, 0.4), of(0.9, 0.35)
    result = pair_losses(loss, 0.4, policy, [(0.7, anchor)], preference)
    swapped = pair_losses(loss, 0.4, -policy, [(0.7, -anchor)], 1.0 - preference)
    torch.testing.assert_close(result.loss, swapped.loss)
    torch.testing.assert_close(result.margin, -swapped.margin)


def test_the_logistic_loss_is_dpo_for_a_binary_answer() -> None:
    """With beta h = .5 · 2 = 1: -log sigma(1) = log(1 + e^-1)."""
    torch.testing.assert_close(logistic_loss(of(2.0), 0.5, of(1.0)), of(math.log1p(math.exp(-1.0))))


def test_the_logistic_loss_is_a_cross_entropy_for_a_probability() -> None:
    """With z = 1, p = .8: .8 log(1 + e^-1) + .2 log(1 + e)."""
    expected = 0.8 * math.log1p(math.exp(-1.0)) + 0.2 * math.log1p(math.e)
    torch.testing.assert_close(logistic_loss(of(2.0), 0.5, of(0.8)), of(expected))


def test_the_logistic_loss_stays_finite_far_away() -> None:
    """-log sigma(-1000) = 1000, not log(0)."""
    torch.testing.assert_close(logistic_loss(of(-1000.0), 1.0, of(1.0)), of(1000.0))


def test_the_gradient_of_the_squared_loss_is_twice_the_distance_to_the_target() -> None:
    """With h = 1, target 2: d(h - 2)^2 / dD_pi = 2 (1 - 2) = -2; the margins and anchors carry none."""
    log_ratio, anchor = of(1.5).requires_grad_(), of(0.5).requires_grad_()
    result = pair_losses("squared", 0.25, log_ratio, [(1.0, anchor)], of(1.0))
    result.loss.sum().backward()
    torch.testing.assert_close(cast(Tensor, log_ratio.grad), of(-2.0))
    assert anchor.grad is None
    assert not result.margin.requires_grad


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_gradients_agree_with_finite_differences_from_the_logits_on(loss: LossName) -> None:
    generator = torch.Generator().manual_seed(11)
    logits = torch.randn(4, 3, 5, dtype=torch.float64, generator=generator).requires_grad_()
    targets = torch.randint(0, 5, (4, 3), generator=generator)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 0]], dtype=torch.bool)
    anchor, preference = of(0.2, -0.4), of(1.0, 0.3)

    def total(logits: Tensor) -> Tensor:
        chosen, rejected = response_log_probs(logits, targets, mask).chunk(2)
        return pair_losses(loss, 0.3, chosen - rejected, [(0.8, anchor)], preference).loss.sum()

    assert torch.autograd.gradcheck(total, (logits,))


def test_a_scale_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scale \(eta or beta\) must be positive, not 0"):
        pair_losses("squared", 0.0, of(1.0), [], of(1.0))


def test_a_preference_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="preference must have log_ratio's shape"):
        pair_losses("squared", 0.1, of(1.0, 2.0), [], of(1.0))


def test_an_anchor_of_another_shape_is_refused_rather_than_broadcast() -> None:
    with pytest.raises(ValueError, match="an anchor's log-ratio must have one entry a pair"):
        anchored_margin(of(1.0, 2.0), [(1.0, of(1.0))])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_log_ratios_in_sixteen_bits_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="log_ratio must be float32 or float64"):
        anchored_margin(of(1.0, dtype=dtype), [])


def test_the_log_probability_of_a_response_is_the_sum_over_its_tokens() -> None:
    """V = 2, logits (log 3, 0): probabilities 3/4 and 1/4. Tokens 0, 1 under the mask: log(3/4) + log(1/4)."""
    logits = of(math.log(3.0), 0.0).expand(1, 3, 2)
    result = response_log_probs(logits, torch.tensor([[0, 0, 1]]), torch.tensor([[False, True, True]]))
    torch.testing.assert_close(result, of(math.log(3 / 4) + math.log(1 / 4)))


def test_a_uniform_model_gives_every_token_minus_log_v() -> None:
    """T tokens of V = 7 equally likely ones: -log 7 each, 0 outside the mask."""
    result = token_log_probs(torch.zeros(1, 3, 7), torch.tensor([[6, 2, 0]]), torch.tensor([[True, False, True]]))
    torch.testing.assert_close(result, torch.tensor([[-math.log(7.0), 0.0, -math.log(7.0)]]))


def test_without_a_mask_every_position_counts() -> None:
    result = token_log_probs(torch.zeros(1, 2, 4), torch.tensor([[1, 3]]))
    torch.testing.assert_close(result, torch.full((1, 2), -math.log(4.0)))


def test_padding_reaches_neither_the_result_nor_the_gradient() -> None:
    """NaN logits and target -100 outside the mask: the result is finite and their gradient exactly 0."""
    logits = torch.full((2, 3, 4), math.nan)
    logits[:, 1] = 0.0
    logits.requires_grad_()
    mask = torch.tensor([[False, True, False]]).expand(2, 3)
    result = response_log_probs(logits, torch.tensor([[-100, 2, -100]]).expand(2, 3), mask)
    result.sum().backward()
    torch.testing.assert_close(result, torch.full((2,), -math.log(4.0)))
    gradient = cast(Tensor, logits.grad)
    assert bool(gradient.isfinite().all())
    assert not gradient[:, [0, 2]].any()


def test_long_responses_of_a_bfloat16_model_are_summed_in_32_bits() -> None:
    """2,000 tokens at -log 4 are -2772.59; bfloat16 has a spacing of 16 there, float32 one of 0.0002."""
    logits = torch.zeros(1, 2000, 4, dtype=torch.bfloat16)
    result = response_log_probs(logits, torch.zeros(1, 2000, dtype=torch.long), torch.ones(1, 2000, dtype=torch.bool))
    assert result.dtype == torch.float32
    assert float(result) == pytest.approx(-2000 * math.log(4.0), abs=0.01)


def test_an_empty_response_is_refused_with_its_row() -> None:
    with pytest.raises(ValueError, match=r"no token in the rows \[1\]"):
        response_log_probs(torch.zeros(2, 1, 3), torch.zeros(2, 1, dtype=torch.long), torch.tensor([[True], [False]]))


def test_unshifted_targets_are_refused() -> None:
    """The commonest mistake: T logits for T - 1 targets."""
    with pytest.raises(ValueError, match="logits must be B x T x V, targets and mask B x T"):
        token_log_probs(torch.zeros(1, 4, 3), torch.zeros(1, 3, dtype=torch.long))


def test_sppos_loss_is_the_mean_of_both_responses_squared_distances() -> None:
    """Log-ratios to pi_t of .5 and -.25, win rates .8 and .3, eta = .5: targets .6 and -.4.

    ((.5 - .6)^2 + (-.25 + .4)^2) / 2 = (.01 + .0225) / 2 = .01625; the margin .75 aims at (.8 - .3) / .5 = 1.
    """
    responses = Responses(torch.stack([of(0.8), of(0.3)]), of(-0.25))
    result = pair_losses("win_rate_squared", 0.5, of(1.75), [(1.0, of(1.0))], of(0.5), responses)
    torch.testing.assert_close(result.loss, of(0.01625))
    torch.testing.assert_close(result.margin, of(0.75))
    torch.testing.assert_close(result.target, of(1.0))


def test_dnos_loss_is_a_cross_entropy_with_the_difference_of_win_rates() -> None:
    """Win rates .8 and .3: label sigma(.5). eta h = .5 · 2 = 1: cross-entropy of sigma(1); smallest at h = .5 / eta."""
    responses = Responses(torch.stack([of(0.8), of(0.3)]))
    label = 1.0 / (1.0 + math.exp(-0.5))
    result = pair_losses("win_rate_logistic", 0.5, of(2.0), [], of(0.0), responses)
    expected = label * math.log1p(math.exp(-1.0)) + (1.0 - label) * math.log1p(math.e)
    torch.testing.assert_close(result.loss, of(expected))
    torch.testing.assert_close(result.target, of(1.0))


@pytest.mark.parametrize("loss", ["win_rate_squared", "win_rate_logistic"])
def test_losses_of_win_rates_do_not_read_the_pairs_own_comparison(loss: LossName) -> None:
    responses = Responses(torch.stack([of(0.8), of(0.3)]), of(0.1))
    one, other = (pair_losses(loss, 0.5, of(2.0), [], of(answer), responses).loss for answer in (0.0, 1.0))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("loss", ["win_rate_squared", "win_rate_logistic"])
def test_losses_of_win_rates_say_what_they_lack(loss: LossName) -> None:
    with pytest.raises(ValueError, match=f"the loss {loss} needs the win rates of both responses"):
        pair_losses(loss, 0.5, of(2.0), [], of(1.0))
    with pytest.raises(ValueError, match=r"responses\.win_rates must be 2 x 1, not"):
        pair_losses(loss, 0.5, of(2.0), [], of(1.0), Responses(of(0.8, 0.3), of(0.1)))


def test_sppos_loss_needs_the_rejected_responses_log_ratio() -> None:
    rates = torch.stack([of(0.8), of(0.3)])
    with pytest.raises(ValueError, match="needs the rejected responses' own log-ratios"):
        pair_losses("win_rate_squared", 0.5, of(2.0), [], of(1.0), Responses(rates))
    with pytest.raises(ValueError, match=r"responses\.rejected must have one entry a pair"):
        pair_losses("win_rate_squared", 0.5, of(2.0), [], of(1.0), Responses(rates, of(0.1, 0.2)))
