"""2,000 random schedules of crash, duplicate and loss: every run ends by itself, in the same pairs.

A failing schedule names its seed: `Simulation(spec, seed=..., faults=FAULTS).run()` replays it.
"""

from pathlib import Path

import pytest

from shared.contracts.records import Commit
from shared.store import layout
from shared.store.artifacts import read_model
from tests.support.simulation import Simulation, small_spec

NUM_SCHEDULES = 2_000
CHUNKS = 20
FAULTS = 150


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_schedule_of_faults_ends_in_the_undisturbed_runs_pairs(tmp_path: Path, chunk: int) -> None:
    spec = small_spec(tmp_path)
    calm = Simulation(spec, seed=0, faults=0)
    calm.run()
    assert len(calm.pairs()) == 4
    for seed in range(chunk, NUM_SCHEDULES, CHUNKS):
        disturbed = Simulation(spec, seed, FAULTS)
        try:
            disturbed.run()
        except Exception as error:
            raise AssertionError(f"schedule {seed} failed") from error
        assert disturbed.pairs() == calm.pairs(), f"schedule {seed} changed the pairs"
        assert not [key for key in disturbed.store.objects if "/dead/" in key], f"schedule {seed} gave work up"
        for iteration in (1, 2):
            commit = read_model(disturbed.store, layout.commit("run", iteration), Commit)
            assert commit.num_pairs == 2, f"schedule {seed} lost or doubled a pair"


def test_the_schedules_do_disturb(tmp_path: Path) -> None:
    """Under faults the same 18 items are handled more often than once, or the test above would prove nothing.

    Undisturbed: base 1; 2 iterations of 2 generate, 2 judge, 1 train; the reference's evaluation 1 generate; two
    evaluations of 1 generate, 1 judge, 1 score: 18 in all.
    """
    spec = small_spec(tmp_path)
    calm = Simulation(spec, seed=0, faults=0)
    calm.run()
    assert (len(calm.handled), len(set(calm.handled))) == (18, 18)
    disturbed = Simulation(spec, seed=1, faults=FAULTS)
    disturbed.run()
    assert set(disturbed.handled) == set(calm.handled)
    assert len(disturbed.handled) > 18
    assert sum(disturbed.lost_leases.values()) > 0
