"""`inpo game` as a person types it: presets, files of one's own, algorithms side by side, clear refusals."""

import gzip
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from tests.support.data import outside_data


@pytest.fixture(autouse=True)
def wide_and_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")


def _game(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["game", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def test_the_default_shows_the_biased_cycle_with_its_published_numbers() -> None:
    """Nash policy .7242 .0428 .2330; after 10 iterations INPO's gap is 2.37e-3, EGPO's 1.29e-3."""
    code, text = _game()
    assert code == 0
    assert "biased rock-paper-scissors, .9/.8/.6, tau 0.1" in text
    assert "│ 1 │ 0.6000 │ 0.7242 │ 0.6100 │" in text
    assert "│ 10 │ 2.37e-03 · 8.95e-03 │ 1.29e-03 · 4.78e-03 │" in text


def test_stability_names_the_threshold_and_warns_where_a_run_is_below_it() -> None:
    """Published for the weak-KL cycle: threshold .6491; eta = 3 tau = .03 is below, EGPO at tau + 1/2 converges."""
    code, text = _game("weak-kl", "--stability", "-a", "inpo:eta=0.03", "-a", "inpo:eta=0.7", "-a", "egpo")
    assert code == 0
    assert "INPO with a constant eta converges (last iterate) for eta > 0.6491" in text
    assert "warning: inpo:eta=0.03: eta = 0.03 is not above 0.6491: the last iterate circles" in text
    assert "warning: inpo:eta=0.7" not in text
    assert "inpo:eta=0.03: does not settle: in its last 501 iterations" in text
    assert "egpo: reaches the Nash policy" in text


def test_an_algorithm_with_another_fixed_point_is_said_to_settle_beside() -> None:
    code, text = _game("--stability", "-a", "nash_md")
    assert code == 0
    assert "nash_md: settles beside the Nash policy, at a duality gap of 0.000379" in text


def test_without_tau_no_constant_step_is_recommended() -> None:
    code, text = _game("--tau", "0", "--stability", "-a", "onpo:eta=2")
    assert code == 0
    assert "without tau no constant eta makes INPO's last iterate converge" in text


def test_a_random_game_is_the_same_for_the_same_seed() -> None:
    one, same, other = (_game("random", "--seed", seed, "--responses", "20", "-a", "egpo") for seed in ("3", "3", "4"))
    assert one == same != other
    assert "random game of 20 responses, seed 3" in one[1]


def test_a_matrix_of_ones_own_is_read_from_csv_with_its_reference(tmp_path: Path) -> None:
    """The biased cycle again, as a file: the same Nash policy."""
    file = tmp_path / "mine.csv"
    file.write_text("# mine\n0.5,0.9,0.4\n0.1,0.5,0.8\n0.6,0.2,0.5\n")
    code, text = _game(str(file), "--reference", "0.6,0.3,0.1", "-a", "iterative_dpo:beta=0.1,reference=fixed")
    assert code == 0
    assert "│ 1 │ 0.6000 │ 0.7242 │ 0.6100 │" in text
    assert "│ 1 │ 7.55e-02 · 1.84e+00 │" in text


def test_a_cycle_of_verdicts_is_a_game(tmp_path: Path) -> None:
    record = {"bench": "vicuna", "question_id": "28", "cycle": ["a", "b", "c"], "margins": [1.0, 0.75, 1.0]}
    file = tmp_path / "cycles.jsonl.gz"
    file.write_bytes(gzip.compress((json.dumps(record) + "\n").encode()))
    code, text = _game(str(file), "-a", "egpo", "-a", "iterative_dpo:beta=0.1")
    assert code == 0
    assert "vicuna question 28, cycle 1 of 1" in text
    assert "│ a │ 0.6000 │" in text


def test_where_dpo_has_no_minimiser_the_others_are_shown_all_the_same(tmp_path: Path) -> None:
    """Response 1 always wins: a Bradley-Terry reward without bound."""
    file = tmp_path / "certain.csv"
    file.write_text("0.5,1\n0,0.5\n")
    code, text = _game(str(file), "-a", "egpo", "-a", "iterative_dpo")
    assert code == 0
    assert "no minimiser" in text
    assert "iterative_dpo: the Bradley-Terry fit does not exist" in text


def test_a_cycle_of_certain_verdicts_has_courses_of_all_algorithms(tmp_path: Path) -> None:
    """Most of the real cycles have certain verdicts; from a uniform reference nothing would move in this one."""
    file = tmp_path / "cycles.jsonl"
    file.write_text(json.dumps({"cycle": ["a", "b", "c"], "margins": [1.0, 1.0, 1.0]}))
    code, text = _game(
        str(file), "-a", "egpo", "-a", "iterative_dpo:beta=1", "-a", "iterative_dpo:beta=1,reference=fixed"
    )
    assert code == 0
    assert "no minimiser" not in text
    assert "0.00e+00" not in text


def test_the_real_cycles_are_found_below_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    file = outside_data("preferences/qlora_both_order_cycles.jsonl.gz")
    monkeypatch.setenv("INPO_TEST_DATA", str(file.parents[1]))
    code, text = _game("cycles", "--row", "2", "-a", "egpo")
    assert code == 0
    assert "vicuna question 28, cycle 2 of 78" in text


def test_a_plot_is_written_where_asked(tmp_path: Path) -> None:
    target = tmp_path / "plot.svg"
    code, text = _game("-a", "egpo", "--plot", str(target))
    assert code == 0
    assert "<svg" in target.read_text()
    assert f"plot: {target}" in text


def test_a_plot_without_a_suffix_is_a_png_and_says_so(tmp_path: Path) -> None:
    code, text = _game("-a", "egpo", "--plot", str(tmp_path / "plot"))
    assert code == 0
    assert f"plot: {tmp_path / 'plot.png'}" in text
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_byte_order_mark_and_windows_line_ends_are_read_over(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes(b"\xef\xbb\xbf0.5, 0.9\r\n0.1, 0.5\r\n")
    code, text = _game(str(file), "-a", "egpo")
    assert code == 0
    assert "│ 1 │ 0.5000 │" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is neither a file nor one of rock-paper-scissors, biased, weak-kl, random, cycles"),
        (["cycles"], "INPO_TEST_DATA, which is not set"),
        (["-a", "bogus"], "--algorithm bogus: `name` must be one of dno, egpo"),
        (["-a", "inpo:eta=0.01"], "`tau` (0.1) must not exceed `eta` (0.01)"),
        (["-a", "inpo:eta=fast"], "eta=fast: a number is needed, or theorem4"),
        (["-a", "inpo:eta"], "'eta' is not of the form key=value"),
        (
            ["-a", "inpo:num_iterations=3"],
            "--algorithm inpo:num_iterations=3: `num_iterations` is no parameter of any: eta",
        ),
        (["-a", "inpo:game=3"], "`game` is no parameter of any"),
        (["-a", "inpo:eta=1,eta=2"], "`eta` is given twice"),
        (["-a", "mnpo:opponents=all"], "`opponents` must be current or mixture"),
        (["-a", "inpo:beta=1"], "`beta` is a parameter of iterative_dpo, not of inpo"),
        (["--tau", "-1"], "tau must be a finite number >= 0"),
        (["--reference", "0.5,0.5"], "reference must hold 3 probabilities"),
        (["--reference", "a,b,c"], "--reference must be numbers separated by commas"),
        (["random", "--responses", "0"], "--responses must be between 1 and 1000"),
        (["-a", "egpo", "--plot", "plot.words"], "--plot plot.words"),
        (["-a", "egpo", "--plot", "."], "--plot .: a directory; name a file in it"),
    ],
)
def test_what_cannot_be_played_is_refused_with_its_reason(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INPO_TEST_DATA", raising=False)
    code, text = _game(*arguments)
    assert code == 1
    assert message in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"0.5,x\n", "line 1: '0.5,x' is not a row of numbers"),
        ("a.csv", b"0.5,0.6\n", "must hold a square matrix, not 1 rows of [2] numbers"),
        ("a.csv", b"", "must hold a square matrix, not 0 rows"),
        ("a.csv", b"0.5,0.6\n0.6,0.5\n", "preference must satisfy P + P^T = 1"),
        ("a.csv", b"\xff\xfe", "cannot be read as text"),
        ("a.jsonl", b"", "holds 0 cycles"),
        ("a.jsonl", b'{"cycle": ["a"], "margins": [0.9]}\n', "need `cycle` with three names"),
        ("a.jsonl", b"[1]\n", "need `cycle` with three names"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    code, text = _game(str(file))
    assert code == 1
    assert message in text
