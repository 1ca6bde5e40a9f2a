"""A request for judgments, answered by a judge of this process."""

import time
from collections.abc import Sequence

from services.oracle.judge import Comparison, Judge, Opinion, failure, opinion
from services.oracle.verdicts.answers import answer_of
from shared.contracts.rest.judging import JudgmentItem, JudgmentRequest, JudgmentResult

# The deadline is looked at between batches: an asking that has begun is not interrupted.
BATCH = 256


def judged(request: JudgmentRequest, judge: Judge) -> list[JudgmentResult]:
    """A result for every pair of the request, in order; what the deadline left unasked is an `error`."""
    asked = [(item, pair) for item in request.items for pair in item.pairs]
    comparisons = _comparisons(request.items)
    ends = time.monotonic() + request.deadline_s
    opinions: list[Opinion] = []
    while len(opinions) < len(comparisons) and time.monotonic() < ends:
        opinions += judge.compare(comparisons[len(opinions) : len(opinions) + BATCH])
    late = failure(f"not answered within deadline_s = {request.deadline_s:g}", 0.0)
    opinions += [late] * (len(comparisons) - len(opinions))
    return [_result(request, item, pair, answer) for (item, pair), answer in zip(asked, opinions, strict=True)]


def _comparisons(items: Sequence[JudgmentItem]) -> list[Comparison]:
    comparisons: list[Comparison] = []
    for item in items:
        contents = {response.id: response.content for response in item.responses}
        comparisons.extend(Comparison(item.prompt, contents[first], contents[second]) for first, second in item.pairs)
    return comparisons


def _result(request: JudgmentRequest, item: JudgmentItem, pair: tuple[str, str], answer: Opinion) -> JudgmentResult:
    if request.order == "given" and answer.probability_given is not None:
        answer = opinion(answer.probability_given, None, answer.latency_s)
    return JudgmentResult(
        item_id=item.id,
        pair=pair,
        status=answer.status,
        p=answer.probability,
        p_given=answer.probability_given,
        p_swapped=answer.probability_swapped,
        answer=answer_of(request.answers, answer.probability, "draw", request.seed, item.id, *pair),
        latency_s=answer.latency_s,
        error=answer.error,
    )
