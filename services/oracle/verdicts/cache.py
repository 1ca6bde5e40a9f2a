"""Verdicts kept in the artifact store by content: what was answered once is never asked again, by any run.

The key is a digest of everything that could change the answer: the judge's kind, id and revision, the order, prompt and
both responses, and the draw where the judge is stochastic. Failures are not kept.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from services.oracle.judge import (
    Comparison,
    Judge,
    JudgeUnavailableError,
    Opinion,
    abstention,
    failure,
    opinion,
)
from shared.contracts.judges import Order
from shared.contracts.rest.judging import JudgeIdentity, KeptVerdict
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, MissingArtifactError, create_model, read_model

# A file is durable after two fsyncs, which wait for the disk and not for a processor.
NUM_WRITERS = 8

Keep = Callable[[Mapping[str, Opinion]], None]


class Asker(Protocol):
    """A judge that is asked under keys, and hands over its answers as they come."""

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        ...

    def ask(self, questions: Mapping[str, Comparison], keep: Keep) -> Mapping[str, Opinion]:
        """An opinion a question. Answers pass through `keep`, which makes them durable, before more is asked.

        Raises as `Judge.compare` does; what went through `keep` before that is not lost.
        """
        ...


class CachingJudge:
    """See `Judge`: asks only what nobody has been answered yet."""

    def __init__(self, asker: Asker, store: ArtifactStore, *, order: Order) -> None:
        self._asker = asker
        self._store = store
        self._order: Order = order

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        return self._asker.identity()

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """See `Judge.compare`."""
        identity = self.identity()
        keys = [verdict_key(identity, self._order, comparison) for comparison in comparisons]
        questions = dict(zip(keys, comparisons, strict=True))
        known = {key: kept for key in questions if (kept := read_verdict(self._store, key)) is not None}
        missing = {key: comparison for key, comparison in questions.items() if key not in known}
        fresh: Mapping[str, Opinion] = {}
        try:
            if missing:
                fresh = self._asker.ask(missing, lambda answered: known.update(self._kept(answered)))
        except JudgeUnavailableError as error:
            error.progress += len(known)
            raise
        # The kept verdict comes first: where somebody else was faster, his is the fact.
        return [known[key] if key in known else fresh[key] for key in keys]

    def _kept(self, answered: Mapping[str, Opinion]) -> dict[str, Opinion]:
        """The durable verdicts of these questions; failures are none."""
        identity = self.identity()

        def keep(entry: tuple[str, Opinion]) -> tuple[str, Opinion]:
            return entry[0], keep_verdict(self._store, entry[0], identity, entry[1])

        with ThreadPoolExecutor(NUM_WRITERS) as writers:
            return dict(writers.map(keep, ((key, op) for key, op in answered.items() if op.status != "error")))


class LocalAsker:
    """A judge of this process as an `Asker`."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        return self._judge.identity()

    def ask(self, questions: Mapping[str, Comparison], keep: Keep) -> Mapping[str, Opinion]:
        """See `Asker.ask`."""
        opinions = dict(zip(questions, self._judge.compare(list(questions.values())), strict=True))
        keep(opinions)
        return opinions


class BothOrders:
    """Asks a judge that answers one order at a time in both, and averages: each order is kept, and fails, by itself."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        return self._judge.identity()

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """See `Judge.compare`."""
        swapped = [Comparison(asked.prompt, asked.second, asked.first, asked.draw) for asked in comparisons]
        opinions = self._judge.compare([*comparisons, *swapped])
        num = len(comparisons)
        return [_averaged(*orders) for orders in zip(opinions[:num], opinions[num:], strict=True)]


def verdict_key(identity: JudgeIdentity, order: Order, comparison: Comparison) -> str:
    """The digest under which the answer is kept: 64 hexadecimal digits."""
    turns = [[message.role, message.content] for message in comparison.prompt]
    draw = comparison.draw if identity.stochastic else 0
    asked = [order, turns, comparison.first, comparison.second, draw]
    text = json.dumps([identity.kind, identity.id, identity.revision, *asked])
    return hashlib.sha256(text.encode()).hexdigest()


def read_verdict(store: ArtifactStore, key: str) -> Opinion | None:
    """The kept answer, None while there is none."""
    try:
        return _opinion(read_model(store, layout.verdict(key), KeptVerdict))
    except MissingArtifactError:
        return None


def keep_verdict(store: ArtifactStore, key: str, identity: JudgeIdentity, answer: Opinion) -> Opinion:
    """Make an answer durable; the one that is kept, which is another's where that was first."""
    assert answer.status != "error"
    verdict = KeptVerdict(
        judge=identity,
        status=answer.status,
        p_given=answer.probability_given,
        p_swapped=answer.probability_swapped,
        latency_s=answer.latency_s,
        reason=answer.error,
    )
    if create_model(store, layout.verdict(key), verdict):
        return answer
    return _opinion(read_model(store, layout.verdict(key), KeptVerdict))


def _opinion(verdict: KeptVerdict) -> Opinion:
    if verdict.p_given is None:
        return abstention(verdict.reason or "", verdict.latency_s)
    return opinion(verdict.p_given, verdict.p_swapped, verdict.latency_s)


def _averaged(given: Opinion, swapped: Opinion) -> Opinion:
    latency_s = given.latency_s + swapped.latency_s
    for status, make in (("error", failure), ("abstain", abstention)):
        for answer in (given, swapped):
            if answer.status == status:
                return make(answer.error or "", latency_s)
    assert given.probability_given is not None
    assert swapped.probability_given is not None
    return opinion(given.probability_given, 1.0 - swapped.probability_given, latency_s)
