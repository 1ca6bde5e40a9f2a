"""The demo's measurements: from responses to shares, from shares to the exact game."""

import json
from pathlib import Path

import numpy as np
import pytest

from services.cli.demo.report import Measure, Row, exact_game, report, smoothed_shares, style_counts
from services.cli.demo.views import comparison_table, line, method_table, verdict, write_plot
from services.oracle.rules.styles import answers, question
from shared.contracts.records import Message, Rollout

REFERENCE = np.array([2.0, 1200.0, 620.0, 178.0])


def a_rollout(topic: str, responses: list[str]) -> Rollout:
    return Rollout(
        prompt_id=topic,
        prompt=[Message(role="user", content=question(topic))],
        prompt_ids=[1],
        responses=responses,
        response_ids=[[2]] * len(responses),
        log_probs=[[-0.1]] * len(responses),
        finish_reasons=["stop"] * len(responses),
        versions=[0] * len(responses),
        digests=["d"] * len(responses),
    )


def rows_of(measure: Measure, *counts: np.ndarray) -> list[Row]:
    metrics = {"seconds": 2.5, "chosen_log_prob_shift": 0.1, "rejected_log_prob_shift": -0.2}
    first, *others = counts
    return [measure.row(0, first), *(measure.row(n, c, 0.55, metrics) for n, c in enumerate(others, 1))]


def test_counts_are_of_invalid_plain_poetic_and_pirate_responses() -> None:
    """An answer about the sun is no answer about the moon."""
    sun = [*answers("sun", 1), answers("sun", 3)[0], "Arr!"]
    moon = [answers("moon", 2)[1], answers("sun", 2)[1]]
    assert style_counts([a_rollout("sun", sun), a_rollout("moon", moon)]).tolist() == [2, 3, 1, 1]


def test_no_responses_are_an_error_not_a_share() -> None:
    with pytest.raises(ValueError, match="no responses"):
        style_counts([])


def test_half_a_response_is_added_to_every_action() -> None:
    """(0, 5, 2, 1) + 1/2 = (.5, 5.5, 2.5, 1.5), of 10."""
    assert smoothed_shares(np.array([0.0, 5.0, 2.0, 1.0])) == pytest.approx([0.05, 0.55, 0.25, 0.15])


def test_the_reference_policy_is_row_zero_and_far_from_nash() -> None:
    """Around shares .6/.31/.09 under the demo's readers the gap of the reference is about .12, at least .10."""
    row = Measure(exact_game(REFERENCE, 0.15)).row(0, REFERENCE)
    assert row.iteration == 0
    assert row.style_shares == pytest.approx([0.6, 0.31, 0.089])
    assert row.invalid_share == pytest.approx(0.001)
    assert 0.10 <= row.duality_gap <= 0.13
    assert row.kl_to_nash > 0.1
    assert (row.win_rate_vs_reference, row.seconds, row.chosen_log_prob_shift) == (0.5, 0.0, None)


def test_the_nash_policy_measures_zero() -> None:
    """Counts proportional to the Nash policy, so many that the added halves do not matter."""
    measure = Measure(exact_game(REFERENCE, 0.15))
    row = measure.row(3, measure.nash * 1e9, 0.55, {"seconds": 2.0, "chosen_log_prob_shift": 0.1})
    assert row.duality_gap == pytest.approx(0.0, abs=1e-6)
    assert row.kl_to_nash == pytest.approx(0.0, abs=1e-6)
    assert (row.win_rate_vs_reference, row.seconds, row.chosen_log_prob_shift) == (0.55, 2.0, 0.1)
    assert row.rejected_log_prob_shift is None


def test_a_collapsed_policy_is_far_away_but_finitely() -> None:
    """All pirate: a smoothed action was never sampled, its log-ratio is finite; poetic is preferred with .9."""
    measure = Measure(exact_game(REFERENCE, 0.15))
    row = measure.row(1, np.array([0.0, 0.0, 0.0, 2048.0]), 0.5)
    assert row.duality_gap > 0.5
    assert 1.0 < row.kl_to_nash < 20.0


def test_the_report_is_plain_json_with_a_list_of_rows_a_method() -> None:
    measure = Measure(exact_game(REFERENCE, 0.15))
    rows = rows_of(measure, REFERENCE, measure.nash * 2048)
    content = json.loads(
        json.dumps(report(measure, {"inpo": rows, "iterative_dpo": rows[:1]}, seed=3), allow_nan=False)
    )
    assert set(content) == {"runs", "game", "nash", "reference", "seed"}
    assert set(content["runs"]) == {"inpo", "iterative_dpo"}
    first, second = content["runs"]["inpo"]["iterations"]
    assert (first["iteration"], second["iteration"]) == (0, 1)
    wanted = {
        "iteration",
        "style_shares",
        "invalid_share",
        "duality_gap",
        "kl_to_nash",
        "win_rate_vs_reference",
        "seconds",
    }
    assert wanted <= set(first)
    assert sum(content["nash"].values()) == pytest.approx(1.0)
    assert content["game"]["preferences"][1][2] == 0.95


def test_people_see_every_row_both_methods_and_a_plot(tmp_path: Path) -> None:
    measure = Measure(exact_game(REFERENCE, 0.15))
    ours = rows_of(measure, REFERENCE, measure.nash * 2048)
    theirs = rows_of(measure, REFERENCE, np.array([10.0, 38.0, 0.0, 2000.0]))
    runs = {"inpo": ours, "iterative_dpo": theirs}
    assert method_table("inpo", ours, measure.nash).row_count == 3
    assert comparison_table(runs).row_count == 2
    assert "chosen +0.10, rejected -0.20 nats · 2.5 s" in line("inpo", ours[1])
    assert f"from {ours[0].duality_gap:.3f}" in verdict(runs)
    write_plot(tmp_path / "report.png", measure, runs)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
