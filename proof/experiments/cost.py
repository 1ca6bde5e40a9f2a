"""What the oracle costs as K grows: SPPO's win rates of all pairs against INPO's tournament."""

from collections.abc import Sequence

from proof.cases import Case, inpo
from proof.games import DEMO
from proof.page import Page
from services.cli.demo.run import ETA

TITLE: str = "What win rates cost: SPPO's full matrix against a tournament"
SIZES = (4, 8, 16, 32, 64)


def cases(seeds: Sequence[int]) -> list[Case]:
    """One iteration of each method at each K, trained on one pair a prompt."""
    return [case(method, size, seeds[0]) for size in SIZES for method in ("tournament", "best_worst")]


def case(method: str, size: int, seed: int) -> Case:
    """INPO with its tournament, or SPPO with best and worst by win rate over all pairs."""
    algorithm = inpo(DEMO) if method == "tournament" else {"name": "sppo", "eta": ETA}
    changes = {
        "sampling": {"num_responses": size},
        "selection": {"method": method, "num_pairs": None},
        "evaluation": {"num_responses": 8},
    }
    return Case(DEMO, algorithm, 1, seed, changes=changes, note=f"{method} of {size}")


def section(page: Page) -> None:
    """Comparisons, seconds and memory of one iteration, by K."""
    page.text(
        "One iteration of 16 prompts, one pair a prompt trained on. A comparison is asked in both orders. Seconds are "
        "those that the oracle worked; its judge here takes microseconds, a real one takes as long as the number of "
        "comparisons says. Memory is the oracle process's peak, most of it its libraries."
    )
    header = ("K", "tournament: comparisons", "s", "MB", "full matrix: comparisons", "s", "MB", "ratio")
    rows: list[list[str]] = []
    counts_hold = True
    for size in SIZES:
        found = page.courses([case(method, size, page.seeds[0]) for method in ("tournament", "best_worst")])
        if len(found) < 2:
            continue
        ours, theirs = (course.result.iterates[-1].comparisons for course in found)
        counts_hold &= ours == 16 * (3 * size // 2 - 1) and theirs == 16 * size * (size - 1) // 2
        cells: list[str] = []
        for course in found:
            last = course.result.iterates[-1]
            megabytes = course.result.oracle_bytes / 1e6
            cells += [str(last.comparisons), f"{last.judging_s:.2f}", f"{megabytes:.0f}"]
        rows.append([str(size), *cells, f"{theirs / ours:.1f}"])
    page.table(header, rows)
    if rows:
        page.claim("a tournament asks 3K/2 - 1 comparisons a prompt, win rates ask K(K - 1)/2", counts_hold)
