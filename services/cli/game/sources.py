"""Exact games to look at: presets, a matrix of one's own, and real cycles out of a file of verdicts."""

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from services.cli.failures import UserError
from shared.inpo.games import FiniteGame, Vector

CYCLES_FILE = "preferences/qlora_both_order_cycles.jsonl.gz"
DATA_VARIABLE = "INPO_TEST_DATA"
# Of a cycle: the uniform policy is the Nash policy of every symmetric one, and nothing would happen.
REFERENCE = (0.6, 0.3, 0.1)
MAX_RESPONSES = 1000


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person asked for; None is the preset's own."""

    source: str
    tau: float | None
    seed: int
    num_responses: int
    row: int
    reference: str | None


@dataclass(frozen=True, slots=True)
class NamedGame:
    """A game, what to call it, and what to call its responses."""

    game: FiniteGame
    title: str
    labels: list[str]


def cycle(first: float, second: float, third: float) -> Vector:
    """1 beats 2, 2 beats 3, 3 beats 1 with these probabilities."""
    return np.array([[0.5, first, 1.0 - third], [1.0 - first, 0.5, second], [third, 1.0 - second, 0.5]])


def load_game(choice: Choice) -> NamedGame:
    """The game; a `UserError` says what is wrong with the name, the file or the numbers."""
    if choice.source in PRESETS:
        return PRESETS[choice.source](choice)
    path = Path(choice.source)
    if not path.exists():
        raise UserError(f"{choice.source} is neither a file nor one of {', '.join(PRESETS)}")
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _from_cycles(path, choice)
    return _from_csv(path, choice)


def _biased(choice: Choice) -> NamedGame:
    return _made(cycle(0.9, 0.8, 0.6), choice, 0.1, "biased rock-paper-scissors, .9/.8/.6", REFERENCE)


def _symmetric(choice: Choice) -> NamedGame:
    return _made(cycle(0.9, 0.9, 0.9), choice, 0.1, "rock-paper-scissors, .9", REFERENCE)


def _weak(choice: Choice) -> NamedGame:
    return _made(cycle(0.9, 0.8, 0.6), choice, 0.01, "biased rock-paper-scissors under a weak KL", REFERENCE)


def _random(choice: Choice) -> NamedGame:
    num = choice.num_responses
    if not 1 <= num <= MAX_RESPONSES:
        raise UserError(f"--responses must be between 1 and {MAX_RESPONSES}, not {num}")
    rng = np.random.default_rng(choice.seed)
    upper = np.triu(rng.uniform(-0.5, 0.5, (num, num)), 1)
    reference = 0.99 * rng.dirichlet(np.ones(num)) + 0.01 / num
    return _made(0.5 + upper - upper.T, choice, 0.1, f"random game of {num} responses, seed {choice.seed}", reference)


def _cycles(choice: Choice) -> NamedGame:
    folder = os.environ.get(DATA_VARIABLE)
    path = Path(folder) / CYCLES_FILE if folder else None
    if path is None or not path.exists():
        raise UserError(
            f"the preset cycles reads {CYCLES_FILE} below the folder in {DATA_VARIABLE}, which "
            + (f"{path} is not" if path else "is not set")
            + "; or give the file itself: inpo game FILE.jsonl.gz"
        )
    return _from_cycles(path, choice)


PRESETS: dict[str, Callable[[Choice], NamedGame]] = {
    "rock-paper-scissors": _symmetric,
    "biased": _biased,
    "weak-kl": _weak,
    "random": _random,
    "cycles": _cycles,
}


def _from_csv(path: Path, choice: Choice) -> NamedGame:
    rows: list[list[float]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error
    for number, line in enumerate(lines, 1):
        text = line.split("#", 1)[0].strip()
        if text:
            try:
                rows.append([float(cell) for cell in text.split(",")])
            except ValueError:
                raise UserError(
                    f"{path}, line {number}: {text!r} is not a row of numbers; a matrix of P(row beats column), "
                    "separated by commas, and nothing else"
                ) from None
    if any(len(row) != len(rows) for row in rows) or not rows:
        widths = sorted({len(row) for row in rows})
        raise UserError(f"{path} must hold a square matrix, not {len(rows)} rows of {widths} numbers")
    return _made(np.array(rows), choice, 0.1, str(path), None)


def _from_cycles(path: Path, choice: Choice) -> NamedGame:
    """One cycle a line: {"cycle": [a, b, c], "margins": [P(a beats b), P(b beats c), P(c beats a)]}."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            lines = [line for line in cast(Any, file) if line.strip()]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not 1 <= choice.row <= len(lines):
        raise UserError(f"{path} holds {len(lines)} cycles, counted from 1: --row {choice.row} is none of them")
    try:
        record = json.loads(lines[choice.row - 1])
        names, margins = [str(name) for name in record["cycle"]], [float(value) for value in record["margins"]]
        first, second, third = margins
        labels = [names[0], names[1], names[2]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}, cycle {choice.row}: need `cycle` with three names and `margins` with three numbers ({error!r})"
        ) from error
    title = f"{record.get('bench', path.name)} question {record.get('question_id', choice.row)}, cycle {choice.row}"
    return _made(cycle(first, second, third), choice, 0.1, f"{title} of {len(lines)}", REFERENCE, labels)


def _made(
    preference: Vector,
    choice: Choice,
    tau: float,
    title: str,
    reference: Vector | tuple[float, ...] | None,
    labels: list[str] | None = None,
) -> NamedGame:
    num = len(preference)
    if choice.reference is not None:
        try:
            reference = tuple(float(cell) for cell in choice.reference.split(","))
        except ValueError:
            raise UserError(f"--reference must be numbers separated by commas, not {choice.reference!r}") from None
    chosen = np.full(num, 1.0 / num) if reference is None else reference
    try:
        game = FiniteGame(preference, chosen, tau if choice.tau is None else choice.tau)
    except ValueError as error:
        raise UserError(f"{title}: {error}") from None
    return NamedGame(game, title, labels or [str(number) for number in range(1, num + 1)])
