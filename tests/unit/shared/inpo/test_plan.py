"""Algorithms as plans: what each samples from, is anchored to and minimises."""

import pytest

from shared.inpo.algorithms import ALGORITHMS, algorithm_named, check, found
from shared.inpo.plan import (
    REFERENCE,
    Anchor,
    GeometricMixture,
    HalfStep,
    Iterate,
    IterationPlan,
    Parameters,
    UniformMixture,
    algorithm,
    eta_at,
)

PAPER = Parameters(eta=0.0075, tau=0.0025)
NAMES = [
    *("dno", "egpo", "inpo", "inpo_no_kl", "ipo", "ipo_md", "iterative_dpo"),
    *("mnpo", "nash_md", "nash_mp", "online_ipo", "onpo", "sppo"),
]
COMPLETE = {
    "inpo_no_kl": Parameters(eta=0.6),
    "ipo": Parameters(tau=0.1),
    "ipo_md": Parameters(tau=0.1),
    "iterative_dpo": Parameters(beta=0.1),
    "nash_mp": Parameters(tau=0.1),
    "online_ipo": Parameters(tau=0.1),
    "sppo": Parameters(eta=0.6),
    "dno": Parameters(eta=0.6),
}


def plan(name: str, parameters: Parameters, iteration: int) -> IterationPlan:
    return ALGORITHMS[name](parameters, iteration)


def only(name: str, parameters: Parameters, iteration: int) -> HalfStep:
    [half] = plan(name, parameters, iteration).half_steps
    return half


def anchors_of(half: HalfStep) -> dict[int, float]:
    return {anchor.iterate.iteration: anchor.exponent for anchor in half.anchors}


def test_the_algorithms_of_the_papers_are_all_there() -> None:
    assert sorted(ALGORITHMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("iteration", [1, 2, 5])
def test_every_plan_is_anchored_to_a_distribution_and_needs_only_what_exists_by_then(name: str, iteration: int) -> None:
    """Exponents of 1 in sum, none negative; nothing later than the half-steps before."""
    for number, half in enumerate(
        plan(name, COMPLETE.get(name, Parameters(eta=0.6, tau=0.1)), iteration).half_steps, 1
    ):
        assert sum(anchor.exponent for anchor in half.anchors) == pytest.approx(1.0)
        assert all(anchor.exponent > 0.0 for anchor in half.anchors)
        for iterate in half.iterates:
            assert iterate.iteration < iteration or (iterate.iteration == iteration and (iterate.half or 9) < number)
        assert half.same_pairs_as is None or half.same_pairs_as < number


def test_inpo_is_anchored_to_the_reference_by_tau_over_eta_and_to_pi_t_by_the_rest() -> None:
    """The paper's tau / eta is 1/3."""
    assert anchors_of(only("inpo", PAPER, 3)) == pytest.approx({0: 1 / 3, 2: 2 / 3})


def test_inpo_samples_from_and_starts_at_the_policy_of_the_last_iteration() -> None:
    half = only("inpo", PAPER, 3)
    assert (half.sample_from, half.start_from, half.loss, half.scale) == (Iterate(2), Iterate(2), "squared", 0.0075)


def test_at_the_first_iteration_both_anchors_are_the_reference() -> None:
    """1/3 + 2/3 of the same policy: one anchor with exponent 1."""
    assert anchors_of(only("inpo", PAPER, 1)) == pytest.approx({0: 1.0})


def test_inpo_without_kl_is_not_anchored_to_the_reference() -> None:
    assert anchors_of(only("inpo", Parameters(eta=0.5), 4)) == {3: 1.0}
    assert plan("inpo_no_kl", Parameters(eta=0.5), 4) == plan("inpo", Parameters(eta=0.5), 4)


def test_eta_equal_to_tau_leaves_only_the_reference_and_is_online_ipo() -> None:
    assert anchors_of(only("inpo", Parameters(eta=0.5, tau=0.5), 4)) == {0: 1.0}
    assert plan("online_ipo", Parameters(tau=0.5), 4) == plan("inpo", Parameters(eta=0.5, tau=0.5), 4)


def test_the_schedule_of_theorem_4_is_tau_times_t_plus_2_over_2() -> None:
    """With tau = .2: 1.5, 2, 2.5 times tau; the reference's share tau / eta_t is 2 / (t + 2)."""
    parameters = Parameters(tau=0.2, schedule="theorem4")
    assert [eta_at(parameters, t) for t in (1, 2, 3)] == pytest.approx([0.3, 0.4, 0.5])
    assert anchors_of(only("inpo", parameters, 3)) == pytest.approx({0: 2 / 5, 2: 3 / 5})


def test_iterative_dpo_takes_the_last_iterate_or_the_first_as_its_reference() -> None:
    half = only("iterative_dpo", Parameters(beta=0.1), 3)
    assert half == HalfStep(Iterate(2), Iterate(2), (Anchor(Iterate(2), 1.0),), "logistic", 0.1)
    assert anchors_of(only("iterative_dpo", Parameters(beta=0.1, reference="initial"), 3)) == {0: 1.0}


def test_offline_ipo_samples_from_the_reference_in_every_iteration() -> None:
    half = only("ipo", Parameters(tau=0.1), 4)
    assert (half.sample_from, half.start_from, half.scale) == (REFERENCE, Iterate(3), 0.1)
    assert anchors_of(half) == {0: 1.0}


def test_ipo_md_samples_from_a_geometric_mixture_with_the_reference() -> None:
    """An eighth of the reference, or what is asked for; at 1 it is offline, at 0 online IPO."""
    assert only("ipo_md", Parameters(tau=0.1), 4).sample_from == GeometricMixture(Iterate(3), 0.125)
    assert only("ipo_md", Parameters(tau=0.1, mixture=0.5), 4).sample_from == GeometricMixture(Iterate(3), 0.5)
    assert plan("ipo_md", Parameters(tau=0.1, mixture=0.0), 4) == plan("online_ipo", Parameters(tau=0.1), 4)
    assert plan("ipo_md", Parameters(tau=0.1, mixture=1.0), 4) == plan("ipo", Parameters(tau=0.1), 4)


def test_nash_mds_opponent_is_its_anchor() -> None:
    half = only("nash_md", Parameters(eta=0.6, tau=0.15), 4)
    assert half.sample_from == GeometricMixture(Iterate(3), 0.25)
    assert anchors_of(half) == pytest.approx({0: 0.25, 3: 0.75})
    assert only("nash_md", Parameters(eta=0.6, tau=0.15), 1).sample_from == REFERENCE


def test_egpo_steps_twice_from_one_anchor_the_second_time_against_the_first_steps_result() -> None:
    first, second = plan("egpo", Parameters(eta=0.6, tau=0.15), 4).half_steps
    assert (first.sample_from, second.sample_from) == (Iterate(3), Iterate(4, half=1))
    assert first.start_from == second.start_from == Iterate(3)
    assert first.anchors == second.anchors
    assert anchors_of(first) == pytest.approx({0: 0.25, 3: 0.75})


def test_nash_mp_is_egpo_at_eta_equal_to_tau_plus_the_prox_weight() -> None:
    assert plan("nash_mp", Parameters(tau=0.25), 2) == plan("egpo", Parameters(eta=0.75, tau=0.25), 2)
    assert plan("nash_mp", Parameters(tau=0.25, prox=1.0), 2) == plan("egpo", Parameters(eta=1.25, tau=0.25), 2)


def test_onpo_trains_twice_on_one_set_of_pairs_its_first_passes_being_a_chain_of_their_own() -> None:
    """hat_4 from hat_3, then pi_4 from hat_4; both on the pairs of pi_3."""
    first, second = plan("onpo", Parameters(eta=0.5), 4).half_steps
    assert (first.sample_from, first.same_pairs_as) == (Iterate(3), None)
    assert (second.sample_from, second.same_pairs_as) == (Iterate(3), 1)
    assert first.anchors == (Anchor(Iterate(3, half=1), 1.0),)
    assert second.anchors == (Anchor(Iterate(4, half=1), 1.0),)
    assert plan("onpo", Parameters(eta=0.5), 1).half_steps[0].anchors == (Anchor(REFERENCE, 1.0),)


def test_mnpo_spreads_the_anchor_over_recent_iterates() -> None:
    """Ratio .4, weights 3 : 1 : .4 · ref, .6 · 3/4 of the newest, .6 · 1/4 of the one before."""
    half = only("mnpo", Parameters(eta=0.5, ratio=0.4, weights=(3.0, 1.0)), 4)
    assert anchors_of(half) == pytest.approx({0: 0.4, 3: 0.45, 2: 0.15})
    assert half.sample_from == Iterate(3)


def test_mnpo_with_one_player_is_inpo_and_young_runs_have_fewer_players() -> None:
    """At t = 2 of weights 3 : 1 : 1 only two are there: .6 · 3/4 of pi_1, and .4 + .6 · 1/4 of ref."""
    assert plan("mnpo", Parameters(eta=0.6, tau=0.2, weights=(2.0,)), 4) == plan(
        "inpo", Parameters(eta=0.6, tau=0.2), 4
    )
    young = only("mnpo", Parameters(eta=0.5, ratio=0.4, weights=(3.0, 1.0, 1.0)), 2)
    assert anchors_of(young) == pytest.approx({0: 0.55, 1: 0.45})


def test_mnpo_can_play_against_the_mixture_of_its_players() -> None:
    parameters = Parameters(eta=0.5, ratio=0.4, opponents="mixture")
    assert only("mnpo", parameters, 4).sample_from == UniformMixture((Iterate(3), Iterate(2)))
    assert only("mnpo", parameters, 1).sample_from == REFERENCE


def test_sppo_and_dno_learn_from_win_rates_and_are_anchored_to_pi_t_alone() -> None:
    for name, loss in (("sppo", "win_rate_squared"), ("dno", "win_rate_logistic")):
        half = only(name, Parameters(eta=0.5), 4)
        assert (half.loss, half.needs_win_rates) == (loss, True)
        assert anchors_of(half) == {3: 1.0}
    assert not only("inpo", PAPER, 4).needs_win_rates


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("inpo", Parameters(eta=0.1, tau=0.2), r"`tau` \(0.2\) must not exceed `eta` \(0.1\)"),
        ("inpo", Parameters(), r"inpo needs `eta` \(the paper: 0.0075\)"),
        ("inpo", Parameters(schedule="theorem4"), "`theorem4` needs `tau` > 0"),
        ("inpo", Parameters(eta=0.5, tau=0.1, schedule="theorem4"), "leave `eta` out"),
        ("inpo", Parameters(eta=0.5, beta=0.1), "`beta` is a parameter of iterative_dpo, not of inpo; leave it out"),
        ("inpo_no_kl", Parameters(eta=0.5, tau=0.1), "`tau` is a parameter of .*, not of inpo_no_kl"),
        ("iterative_dpo", Parameters(), "iterative_dpo needs `beta`"),
        ("iterative_dpo", Parameters(beta=0.1, eta=0.5), "`eta` is a parameter of .*, not of iterative_dpo"),
        ("online_ipo", Parameters(), "online_ipo needs `tau`"),
        ("mnpo", Parameters(eta=0.5, tau=0.1, ratio=0.3), "give one of `tau` and `ratio`"),
        ("bogus", Parameters(), "`name` must be one of dno, egpo, inpo, .*, not bogus"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(name: str, parameters: Parameters, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(name, parameters)


def test_a_weighted_mixture_of_opponents_is_refused() -> None:
    """At t = 1 there is one player; the second iteration would have two."""
    with pytest.raises(ValueError, match="leave `weights` equal"):
        check("mnpo", Parameters(eta=0.5, weights=(2.0, 1.0), opponents="mixture"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eta": 0.0}, "`eta` must be positive"),
        ({"eta": float("inf")}, "`eta` must be positive and finite"),
        ({"beta": -1.0}, "`beta` must be positive"),
        ({"prox": 0.0}, "`prox` must be positive"),
        ({"tau": -0.1}, "`tau` must be finite and at least 0"),
        ({"tau": float("nan")}, "`tau` must be finite and at least 0"),
        ({"mixture": 1.1}, r"`mixture` must be in \[0, 1\]"),
        ({"ratio": -0.1}, r"`ratio` must be in \[0, 1\]"),
        ({"weights": ()}, "`weights` must be non-negative numbers"),
        ({"weights": (0.0, 1.0)}, "`weights` must be non-negative numbers, the first one positive"),
    ],
)
def test_parameters_out_of_their_range_are_refused_by_name(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameters(**values)  # pyright: ignore[reportArgumentType]


def test_iterations_count_from_one() -> None:
    with pytest.raises(ValueError, match="iterations count from 1, not 0"):
        plan("inpo", PAPER, 0)


def test_two_algorithms_of_one_name_are_refused() -> None:
    """The second `inpo` is one that this module defines."""
    with pytest.raises(ValueError, match="two algorithms are named inpo"):
        found(["shared.inpo.algorithms.inpo", __name__])


@algorithm()
def inpo(parameters: Parameters, iteration: int) -> IterationPlan:
    return algorithm_named("inpo").planner(parameters, iteration)
