"""Algorithms as plans: the anchors are where they differ."""

import pytest

from shared.inpo.plan import Anchor, HalfStep, IterationPlan, Parameters, PolicyRef, eta_at, inpo, iterative_dpo

PAPER = Parameters(eta=0.0075, tau=0.0025)


def anchors_of(plan: IterationPlan) -> dict[PolicyRef, float]:
    [half] = plan.half_steps
    return {anchor.version: anchor.exponent for anchor in half.anchors}


def test_inpo_is_anchored_to_the_reference_by_tau_over_eta_and_to_pi_t_by_the_rest() -> None:
    """The paper's tau / eta is 1/3."""
    assert anchors_of(inpo(PAPER, 3)) == pytest.approx({0: 1 / 3, 2: 2 / 3})


def test_inpo_samples_from_and_starts_at_the_policy_of_the_last_iteration() -> None:
    [half] = inpo(PAPER, 3).half_steps
    assert (half.sample_from, half.start_from, half.loss, half.scale) == (2, 2, "squared", 0.0075)


def test_at_the_first_iteration_both_anchors_are_the_reference() -> None:
    """1/3 + 2/3 of the same policy: one anchor with exponent 1."""
    assert anchors_of(inpo(PAPER, 1)) == pytest.approx({0: 1.0})


def test_inpo_without_kl_is_not_anchored_to_the_reference() -> None:
    assert anchors_of(inpo(Parameters(eta=0.5), 4)) == {3: 1.0}


def test_eta_equal_to_tau_leaves_only_the_reference() -> None:
    """Online IPO, solved in each round."""
    assert anchors_of(inpo(Parameters(eta=0.5, tau=0.5), 4)) == {0: 1.0}


def test_the_schedule_of_theorem_4_is_tau_times_t_plus_2_over_2() -> None:
    """With tau = .2: 1.5, 2, 2.5 times tau; the reference's share tau / eta_t is 2 / (t + 2)."""
    parameters = Parameters(tau=0.2, schedule="theorem4")
    assert [eta_at(parameters, t) for t in (1, 2, 3)] == pytest.approx([0.3, 0.4, 0.5])
    assert anchors_of(inpo(parameters, 3)) == pytest.approx({0: 2 / 5, 2: 3 / 5})


def test_iterative_dpo_takes_the_last_iterate_as_its_reference() -> None:
    plan = iterative_dpo(Parameters(beta=0.1), 3)
    assert plan == IterationPlan((HalfStep(2, 2, (Anchor(2, 1.0),), "logistic", 0.1),))


def test_iterative_dpo_can_hold_its_reference_fixed() -> None:
    assert anchors_of(iterative_dpo(Parameters(beta=0.1, moving_reference=False), 3)) == {0: 1.0}


@pytest.mark.parametrize(
    "parameters",
    [
        Parameters(eta=0.1, tau=0.2),
        Parameters(eta=0.1, tau=-0.1),
        Parameters(),
        Parameters(schedule="theorem4"),
    ],
)
def test_inpo_refuses_parameters_that_give_an_anchor_a_negative_exponent(parameters: Parameters) -> None:
    with pytest.raises(ValueError, match="inpo needs eta > 0 and 0 <= tau <= eta"):
        inpo(parameters, 1)


def test_iterative_dpo_refuses_a_beta_that_is_not_positive() -> None:
    with pytest.raises(ValueError, match="iterative_dpo needs beta > 0"):
        iterative_dpo(Parameters(), 1)
