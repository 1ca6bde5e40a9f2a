"""The gate under threads: work shares it, a swap has it alone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.policy.engine import (
    EngineBusyError,
    EngineError,
    EngineUnavailableError,
    GenerationRequest,
    Sampling,
    SwapGivenUpError,
    SwapRefusedError,
)
from services.policy.swapping.gate import Gate
from shared.contracts.weights import WeightVersion
from shared.store.queue.memory_queue import ManualClock
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


def visit(gate: Gate, wanted: WeightVersion, idle_s: float = 0.0) -> WeightVersion | None:
    """The version that was live while generating for somebody outside the runs."""
    with gate.visiting(wanted, idle_s) as engine:
        engine.generate(ONE, Sampling(2))
        return engine.live_version()


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_visit_to_an_engine_that_no_run_has_used_swaps_at_once() -> None:
    engine = FakeEngine()
    gate = gate_of(engine)
    assert visit(gate, version(3), idle_s=60.0) == version(3)
    assert visit(gate, version(3), idle_s=60.0) == version(3)
    assert engine.swaps == [version(3)]


def test_a_visit_swaps_only_after_runs_left_the_engine_alone_for_a_while() -> None:
    """A run's work ends at 1000 s; with 5 s of idleness asked for, 1004.9 s is too early and 1005 s is not."""
    engine, clock = FakeEngine(), Clock()
    gate = Gate(engine, lambda wanted: Path(wanted.directory), clock=clock)
    generate(gate, version(0))
    for now_s in (1000.0, 1004.9):
        clock.now_s = now_s
        with pytest.raises(EngineBusyError):
            visit(gate, version(1), idle_s=5.0)
    assert engine.live == version(0)
    clock.now_s = 1005.0
    assert visit(gate, version(1), idle_s=5.0) == version(1)


def test_a_visit_is_answered_beside_a_runs_work_under_the_same_version_and_refused_under_another() -> None:
    engine = FakeEngine()
    gate = gate_of(engine)
    with gate.serving(version(0)):
        assert visit(gate, version(0)) == version(0)
        with pytest.raises(EngineBusyError):
            visit(gate, version(1))
    assert engine.swaps == [version(0)]


def test_a_run_that_waits_for_its_swap_has_the_engine_already() -> None:
    """A visit under version 0 is in the engine, a run's swap to version 1 waits for it: a second visit is refused."""
    engine = FakeEngine()
    gate = gate_of(engine)
    with ThreadPoolExecutor(1) as pool:
        with gate.visiting(version(0), 0.0):
            run = pool.submit(generate, gate, version(1))
            wait_until(lambda: gate.closed, 10, "the run's swap to close the gate")
            with pytest.raises(EngineBusyError):
                visit(gate, version(0))
        assert run.result(10) == version(1)


def test_runs_and_visits_mixed_by_threads_each_see_their_own_version_and_no_swap_overlaps() -> None:
    """Four threads of runs alternate between versions 0 and 1, four visit version 2 and are answered or refused."""
    engine = FakeEngine()
    gate = gate_of(engine)

    def work(thread: int) -> bool:
        return all(generate(gate, version((thread + i) % 2)) == version((thread + i) % 2) for i in range(25))

    def call(_: int) -> bool:
        for _ in range(25):
            try:
                if visit(gate, version(2)) != version(2):
                    return False
            except EngineBusyError:
                continue
        return True

    with ThreadPoolExecutor(8) as pool:
        runs, visits = [pool.submit(work, n) for n in range(4)], [pool.submit(call, n) for n in range(4)]
        assert all(future.result(60) for future in [*runs, *visits])
    assert engine.overlaps == 0
    assert visit(gate, version(2)) == version(2)


class RefusingEngine(FakeEngine):
    """Counts how often weights are looked at that it then refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0
        self.error: EngineError = SwapRefusedError("another model")

    def stage(self, directory: Path, version: WeightVersion) -> None:
        self.tries += 1
        if version.digest in self.refused:
            raise self.error


def refuse(gate: Gate, number: int) -> EngineError:
    with pytest.raises(EngineError) as caught:
        gate.ensure(version(number))
    return caught.value


def test_weights_that_are_refused_are_tried_three_times_and_again_after_a_minute() -> None:
    """Each try loads all weights: a thousand shards must not make three thousand of them."""
    engine, clock = RefusingEngine(), ManualClock()
    gate = Gate(engine, lambda wanted: Path(wanted.directory), clock=clock)
    engine.refused = {"digest-1"}
    tried = [isinstance(refuse(gate, 1), SwapGivenUpError) for _ in range(6)]
    assert (tried, engine.tries) == ([False, False, False, True, True, True], 3)
    assert str(refuse(gate, 1)) == "given up after 3 tries: another model"
    assert gate.trouble == "another model"
    clock.advance(61.0)
    assert not isinstance(refuse(gate, 1), SwapGivenUpError)
    engine.refused = set()
    gate.ensure(version(1))
    assert gate.trouble is None


def test_an_engine_that_is_away_is_no_fault_of_the_weights() -> None:
    engine = RefusingEngine()
    gate = gate_of(engine)
    engine.refused, engine.error = {"digest-1"}, EngineUnavailableError("vLLM is away")
    assert not any(isinstance(refuse(gate, 1), SwapGivenUpError) for _ in range(6))
    assert gate.trouble == "vLLM is away"
