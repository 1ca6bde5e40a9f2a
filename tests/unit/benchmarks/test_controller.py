"""What the controller's benchmark says of its measurements."""

from benchmarks.controller import Among, Played, goals


def test_every_goal_is_said_to_be_met_or_missed() -> None:
    """1 s for 100 shards and 40 s for 2,000: 20 ms a shard is twice 10. Of 20 GETs, 19 took no longer than 30 ms."""
    few = Played(100, 5.0, 1.0, [0.01])
    many = Played(2_000, 50.0, 40.0, [0.02] * 18 + [0.03, 0.9])
    lines = goals([few, many], Among(first_tick_s=0.1, tick_s=0.004, page_s=0.06))
    assert lines == [
        "loop CPU for 2,000 shards: 40 s, goal 30: missed",
        "growth of the CPU a shard from 100 shards: 2 times, goal 1.5: missed",
        "p95 of GET /v1/runs/{id}: 30 ms, goal 50: met",
        "CPU of a tick with 1,000 ended runs (the first: 100 ms): 4 ms, goal 5: met",
        "first page of GET /v1/runs with 1,000 ended runs: 60 ms, goal 50: missed",
    ]
