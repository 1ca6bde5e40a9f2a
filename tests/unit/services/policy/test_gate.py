"""The gate under threads: work shares it, a swap has it alone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.policy.engine import GenerationRequest, Sampling, SwapRefusedError
from services.policy.gate import Gate
from shared.contracts.weights import WeightVersion
from tests.support.fake_engine import FakeEngine
from tests.support.waiting import wait_until

ONE = [GenerationRequest([1], [1])]


def version(number: int) -> WeightVersion:
    return WeightVersion(run="run", number=number, digest=f"digest-{number}", directory=f"weights/{number}")


def gate_of(engine: FakeEngine) -> Gate:
    return Gate(engine, lambda wanted: Path(wanted.directory))


def generate(gate: Gate, wanted: WeightVersion) -> WeightVersion | None:
    """The version that was live while generating."""
    with gate.serving(wanted) as engine:
        engine.generate(ONE, Sampling(2))
        return engine.live_version()


def test_a_version_that_is_live_is_not_swapped_again() -> None:
    engine = FakeEngine()
    gate = gate_of(engine)
    for number in (0, 0, 1, 1, 0):
        gate.ensure(version(number))
    assert [swapped.number for swapped in engine.swaps] == [0, 1, 0]


def test_no_generation_overlaps_a_swap_and_each_sees_its_own_version() -> None:
    """Eight threads, each generating 25 times under versions that alternate between two."""
    engine = FakeEngine()
    gate = gate_of(engine)

    def work(thread: int) -> int:
        return sum(generate(gate, version((thread + i) % 2)) != version((thread + i) % 2) for i in range(25))

    with ThreadPoolExecutor(8) as pool:
        wrong = list(pool.map(work, range(8)))
    assert wrong == [0] * 8
    assert engine.overlaps == 0


def test_several_threads_generate_at_the_same_time() -> None:
    """Each of three generations waits for the other two: a barrier that would break if the gate let in one only."""
    engine = FakeEngine()
    gate = gate_of(engine)
    gate.ensure(version(0))
    together = threading.Barrier(3, timeout=10)

    def meet(what: str) -> None:
        together.wait()

    engine.during = meet
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(generate, [gate] * 3, [version(0)] * 3)) == [version(0)] * 3


def test_a_swap_waits_for_running_work_and_new_work_waits_for_the_swap() -> None:
    """Order of events: the running generation ends, then the swap happens, then the late caller is served."""
    engine = FakeEngine()
    gate = gate_of(engine)
    gate.ensure(version(0))
    started, finish = threading.Event(), threading.Event()
    order: list[str] = []

    def during(what: str) -> None:
        if what == "generate" and not started.is_set():
            started.set()
            assert finish.wait(10)
        order.append(what)

    engine.during = during
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(generate, gate, version(0))
        assert started.wait(10)
        swapping = pool.submit(gate.ensure, version(1))
        wait_until(lambda: gate.closed, 10, "the gate to close")
        late = pool.submit(generate, gate, version(1))
        assert not swapping.done()
        assert not late.done()
        finish.set()
        assert running.result(10) == version(0)
        swapping.result(10)
        assert late.result(10) == version(1)
    assert order == ["generate", "swap", "generate"]


def test_a_refused_swap_reopens_the_gate_with_the_old_version() -> None:
    engine = FakeEngine()
    gate = gate_of(engine)
    gate.ensure(version(0))
    engine.refused.add(version(1).digest)
    with pytest.raises(SwapRefusedError, match="refused"):
        generate(gate, version(1))
    assert not gate.closed
    assert generate(gate, version(0)) == version(0)


def test_an_error_inside_the_block_leaves_the_gate_usable() -> None:
    engine = FakeEngine()
    gate = gate_of(engine)
    with pytest.raises(RuntimeError, match="mine"), gate.serving(version(0)):
        raise RuntimeError("mine")
    gate.ensure(version(1))
    assert generate(gate, version(1)) == version(1)
