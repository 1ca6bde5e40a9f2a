"""Random schedules of crash, duplicate and loss: every run ends by itself, in the same pairs.

1,000 of them; `INPO_TEST_SCHEDULES=112000 make test ARGS=tests/chaos/test_simulation.py` for as many. A failing
schedule names its seed: `Simulation(spec, seed=..., faults=FAULTS).run()` replays it.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.plans import EvaluationPlan
from shared.contracts.records import Commit, PublishedWeights
from shared.store.artifacts import layout
from shared.store.artifacts.store import read_model
from tests.support.simulation import ONE_HALF_STEP, TWO_HALF_STEPS, TWO_PASSES, Simulation, small_spec

NUM_SCHEDULES = int(os.environ.get("INPO_TEST_SCHEDULES", "1000"))
CHUNKS = 20
FAULTS = 150
# Judged pairs artifacts of a run: 2 iterations of 2 shards, twice that where both half-steps sample.
PAIRS = {"one half-step": (ONE_HALF_STEP, 4), "two": (TWO_HALF_STEPS, 8), "two on the same pairs": (TWO_PASSES, 4)}


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(120 + NUM_SCHEDULES // 10)
@pytest.mark.parametrize("algorithm", PAIRS)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_schedule_of_faults_ends_in_the_undisturbed_runs_pairs(tmp_path: Path, chunk: int, algorithm: str) -> None:
    """Schedules are dealt out to the kinds of iteration in turn: two thirds of them have two half-steps."""
    parameters, num_pairs = PAIRS[algorithm]
    spec = small_spec(tmp_path, parameters)
    calm = Simulation(spec, seed=0, faults=0)
    calm.run()
    assert len(calm.pairs()) == num_pairs
    first = chunk + CHUNKS * list(PAIRS).index(algorithm)
    for seed in range(first, NUM_SCHEDULES, CHUNKS * len(PAIRS)):
        disturbed = Simulation(spec, seed, FAULTS)
        try:
            disturbed.run()
        except Exception as error:
            raise AssertionError(f"schedule {seed} failed") from error
        assert disturbed.pairs() == calm.pairs(), f"schedule {seed} changed the pairs"
        assert not [key for key in disturbed.store.objects if "/dead/" in key], f"schedule {seed} gave work up"
        for iteration in (1, 2):
            commit = read_model(disturbed.store, layout.commit("run", iteration), Commit)
            assert commit.num_pairs == num_pairs / 2, f"schedule {seed} lost or doubled a pair"


@pytest.mark.parametrize(
    ("algorithm", "num_items"), [(ONE_HALF_STEP, 18), (TWO_HALF_STEPS, 28), (TWO_PASSES, 20)], ids=PAIRS
)
def test_the_schedules_do_disturb(tmp_path: Path, algorithm: dict[str, Any], num_items: int) -> None:
    """Under faults the same items are handled more often than once, or the test above would prove nothing.

    Undisturbed: base 1; 2 iterations of 2 generate, 2 judge, 1 train; the reference's evaluation 1 generate; two
    evaluations of 1 generate, 1 judge, 1 score: 18 in all. A second half-step is 5 items more an iteration, a second
    pass over the same pairs 1.
    """
    spec = small_spec(tmp_path, algorithm)
    calm = Simulation(spec, seed=0, faults=0)
    calm.run()
    assert (len(calm.handled), len(set(calm.handled))) == (num_items, num_items)
    disturbed = Simulation(spec, seed=1, faults=FAULTS)
    disturbed.run()
    assert set(disturbed.handled) == set(calm.handled)
    assert len(disturbed.handled) > num_items
    assert sum(disturbed.lost_leases.values()) > 0


def test_a_commit_covers_both_half_steps_and_names_the_iterate(tmp_path: Path) -> None:
    """EGPO's commit proves plan, 2 shards of rollouts, judgments and pairs, and weights of each half-step: 2 x 8.

    ONPO's second pass has a plan and weights only: 8 + 2. What half-step 1 made is never the iteration's result, and
    never evaluated.
    """
    for algorithm, num_digests in ((TWO_HALF_STEPS, 16), (TWO_PASSES, 10)):
        run = Simulation(small_spec(tmp_path, algorithm), seed=0, faults=0)
        run.run()
        commit = read_model(run.store, layout.commit("run", 2), Commit)
        assert len(commit.digests) == num_digests
        assert (commit.weights.number, commit.weights.half) == (2, None)
        middle = read_model(run.store, layout.published(layout.half_step("run", 2, 1)), PublishedWeights).version
        assert (middle.number, middle.half) == (2, 1)
        evaluated = [read_model(run.store, layout.plan(layout.evaluation("run", n)), EvaluationPlan) for n in range(3)]
        assert [(plan.version.number, plan.version.half) for plan in evaluated] == [(0, None), (1, None), (2, None)]
