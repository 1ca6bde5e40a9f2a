"""Whether the 95 % interval of the duality-gap estimate covers the exact gap of a language model."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from proof.cases import Case
from proof.gap_coverage import gap_coverage
from proof.page import Page
from services.cli.demo.model import demo_model
from services.cli.views.watching import progress_bar

TITLE: str = "The duality-gap estimate's interval"
ENOUGH = 0.9
FIGURES = ("policy", "tau", "exact_gap", "mean_estimate", "mean_width", "covered", "trials", "refused")


def cases(seeds: Sequence[int]) -> list[Case]:
    """None: it samples from the engine itself, a hundred times as much as a run does."""
    return []


def measure(path: Path, state_dir: Path, console: Console) -> None:
    """Write the figures of 100 trials to `path`, unless they are there; a few minutes."""
    if path.exists():
        return
    state_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=state_dir) as folder, progress_bar(console) as bar:
        task = bar.add_task("coverage of the gap's interval: questions answered", total=None)
        found = gap_coverage(
            demo_model(state_dir),
            Path(folder),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{name: value for name, value in asdict(one).items() if name in FIGURES} for one in found]
    path.write_text(json.dumps(rows, indent=1) + "\n")


def section(page: Page) -> None:
    """The share of trials that cover, by policy and tau."""
    if not page.coverage.exists():
        page.text("Not run.")
        return
    page.text(
        "100 seeded trials of 128 responses to each of the demo's 16 questions, from a policy and from the reference "
        "policy, sampled by the engine and scored by the trainer's code. The exact gap comes from the exact log-probs "
        "of a question's nine well-formed answers. At tau .0025 on a synthetic game of 20,000 responses the estimate "
        "is refused every time (`tests/unit/shared/inpo/test_gap_estimate.py`)."
    )
    rows: list[dict[str, Any]] = json.loads(page.coverage.read_text())
    header = ("policy", "tau", "exact gap", "mean estimate", "mean width", "covered", "refused")
    page.table(header, [_row(row) for row in rows])
    page.claim(
        f"in every row at least {ENOUGH:.0%} of the intervals cover the exact gap",
        all(row["covered"] >= ENOUGH * row["trials"] for row in rows),
    )


def _row(row: dict[str, Any]) -> list[str]:
    figures = (f"{row[name]:.4f}" for name in ("exact_gap", "mean_estimate", "mean_width"))
    return [row["policy"], f"{row['tau']:g}", *figures, f"{row['covered']} of {row['trials']}", str(row["refused"])]
