"""docs/algorithms.md: a row for every algorithm, naming each of its parameters."""

import re
from pathlib import Path

import pytest

from shared.inpo.algorithms import ALGORITHMS

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")
ROWS = {line.split("|")[1].strip().strip("`"): line.split("|") for line in PAGE.splitlines() if line.startswith("| `")}


def test_every_algorithm_has_its_row() -> None:
    assert set(ROWS) == set(ALGORITHMS)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_its_row_names_exactly_its_parameters(name: str) -> None:
    named = re.sub(r"\(.*?\)|\bor\b", ",", ROWS[name][4])
    assert {word for word in re.split(r"[\s,]+", named) if word} == ALGORITHMS[name].parameters
