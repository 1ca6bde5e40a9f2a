"""Idle time of an iteration, from spans."""

from benchmarks.idle import Span, merge, windows


def _span(name: str, start: float, end: float, **fields: int | str) -> Span:
    return Span(name, start, end, dict(fields))


def test_idle_time_is_what_no_work_covers_and_is_itemised() -> None:
    """The iteration is [10, 20]. Work covers [10, 13], [12, 15] and [16, 19]: 8 s, so 2 s are idle.

    Of the gap [15, 16] half is a swap; of the gap [19, 20] the last 0.25 s are the commit; 1.25 s remain unexplained.
    [13, 15] is judging of an evaluation: without it, 2 s more are idle.
    """
    spans = [
        _span("commit", 9.0, 10.0, iteration=1),
        _span("generate", 8.0, 13.0),
        _span("judge", 12.0, 13.0, step="runs/r/iterations/0002/half-1"),
        _span("judge", 13.0, 15.0, step="runs/r/evaluations/0001"),
        _span("swap", 14.0, 15.5),
        _span("train", 16.0, 19.0),
        _span("commit", 19.75, 20.0, iteration=2),
    ]
    (window,) = windows(spans)
    assert (window.iteration, window.wall_s, window.idle_s, window.share) == (2, 10.0, 2.0, 0.2)
    assert window.without_evaluation_s == 4.0
    assert window.items == {
        "publish": 0.0,
        "swap": 0.5,
        "plan": 0.0,
        "commit": 0.25,
        "queue and waiting": 1.25,
    }


def test_overlapping_intervals_are_counted_once() -> None:
    assert merge([(3.0, 4.0), (0.0, 2.0), (1.0, 2.5)]) == [(0.0, 2.5), (3.0, 4.0)]
