"""What a run's measurements look like as tables."""

from rich.console import Console
from rich.table import Table

from services.cli.views.tables import gap_table, measurements_table
from shared.contracts.records import DualityGap, Estimate
from tests.support.cli_views import an_iteration


def _text(table: Table) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _measured_gap(**changes: object) -> DualityGap:
    gap = DualityGap(
        tau=0.1,
        estimate=Estimate(mean=0.021, low=0.011, high=0.031, num=16),
        refusal=None,
        effective_samples=61.25,
        lower_bound=Estimate(mean=0.01, low=0.004, high=0.016, num=16),
        best_win_rate=Estimate(mean=0.52, low=0.51, high=0.53, num=16),
        found_by="best of 4",
        num_comparisons=12345,
        num_unjudged=0,
    )
    return gap.model_copy(update=changes)


def test_training_is_shown_by_margin_shift_and_what_was_dropped() -> None:
    row = an_iteration(2, kl_to_previous=Estimate(mean=0.25, low=0.2, high=0.3, num=8))
    assert row.commit is not None
    metrics = {
        "margin_mean": 1.25,
        "target_mean": 1.5,
        "margin_positive_share": 0.75,
        "log_ratio_abs_mean": 3.5,
        "chosen_log_prob_shift": -0.5,
        "rejected_log_prob_shift": -2.0,
        "identical_pair_share": 0.125,
    }
    commit = row.commit.model_copy(update={"metrics": metrics, "dropped": {"identical responses": 6, "over-long": 1}})
    shown = _text(measurements_table([an_iteration(0), row.model_copy(update={"commit": commit})]))
    line = next(line for line in shown.splitlines() if line.startswith("2"))
    for cell in ("1.25", "1.5", "75.0%", "3.5", "-0.5", "-2", "0.25 [0.20, 0.30]", "12.5%"):
        assert cell in line
    assert "6 x identical responses, 1 x over-long" in " ".join(shown.split())


def test_a_gap_is_shown_with_its_interval_and_its_oracle_cost() -> None:
    shown = _text(gap_table([an_iteration(1, duality_gap=_measured_gap()), an_iteration(2)]))
    assert "0.021 [0.011, 0.031]" in shown
    assert "61.2" in shown
    assert "12,345" in shown
    assert not any(line.startswith("2") for line in shown.splitlines())


def test_a_refused_gap_shows_the_bound_and_the_reason() -> None:
    refused = _measured_gap(estimate=None, refusal="1.2 effective samples, 20 are needed")
    shown = _text(gap_table([an_iteration(1, duality_gap=refused)]))
    assert "0.004" in shown
    assert "best of 4" in shown
    assert "1.2 effective samples" in shown
