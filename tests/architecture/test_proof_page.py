"""docs/proof.md is whole: `make prove` has run everything that it promises."""

from pathlib import Path

import pytest

from proof.__main__ import EXPERIMENTS
from shared.inpo.algorithms import ALGORITHMS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proof.md"
SECTIONS = dict(zip(EXPERIMENTS, PAGE.read_text(encoding="utf-8").split("\n## ")[1:], strict=True))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_its_section_and_was_run(name: str) -> None:
    assert SECTIONS[name].startswith(EXPERIMENTS[name].TITLE)
    assert "Not run." not in SECTIONS[name]
    assert "| " in SECTIONS[name]


@pytest.mark.parametrize("name", ["exact", "demo_game"])
def test_every_algorithm_has_a_row(name: str) -> None:
    rows = [line.removeprefix("| ").split(" ")[0] for line in SECTIONS[name].splitlines() if line.startswith("| ")]
    assert set(ALGORITHMS) <= set(rows)


def test_every_plot_is_there() -> None:
    plots = [line.partition("](")[2].rstrip(")") for line in PAGE.read_text().splitlines() if line.startswith("![")]
    assert len(plots) >= 3
    assert all((PAGE.parent / plot).stat().st_size > 5_000 for plot in plots)
