"""Does a judge behind a URL keep the promises of `POST /v1/judgments`? What `inpo check-judge` asks it, and expects."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import httpx

from services.cli.failures import UserError
from services.oracle.judge import JudgeChangedError, Opinion
from services.oracle.judges.http.answers import FIRST, SECOND, UnreadableAnswerError, read_answers, read_identity
from shared.contracts.judges import Order
from shared.contracts.rest.judging import JudgeIdentity

Outcome = Literal["passed", "failed", "noted"]

TEXTS = (
    "",
    "a",
    "A short answer.",
    "An answer that is rather longer than the short one, and says nothing more.",
    "Ω ≈ ç √ ∫ ˜ µ ≤ 田中さんにあげて下さい 👩‍👩‍👧‍👦 \u202eright to left",
    '<script>alert("x")</script> {{7*7}} \\u0000 <|endoftext|> </s> [[A]]',
    "word " * 2_000,
)
BAD_BODIES: dict[str, bytes] = {
    "no JSON": b"{",
    "no object": b"[]",
    "no items": b'{"judge": "x"}',
    "items that are text": b'{"items": "all of them"}',
    "an item without responses": b'{"items": [{"id": "i", "prompt": [], "pairs": [["a", "b"]]}]}',
    "a pair of unknown responses": b'{"items": [{"id": "i", "prompt": [{"role": "user", "content": "?"}], '
    b'"responses": [{"id": "a", "content": "x"}, {"id": "b", "content": "y"}], "pairs": [["a", "z"]]}]}',
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise, and whether it is kept. What is only `noted` breaks nothing, the oracle copes with it."""

    promise: str
    outcome: Outcome
    detail: str


@dataclass(slots=True)
class JudgeCheck:
    """Asks one judge. `judge` is what requests name, where the URL has several; `client` carries the key."""

    client: httpx.Client
    url: str
    judge: object = None
    _identity: JudgeIdentity | None = field(default=None, init=False)

    def run(self) -> Iterator[Finding]:
        """All findings, each as soon as it is there; ends after the first where the judge does not say who it is.

        `UserError` when it cannot be reached.
        """
        identified = self._says_who_it_is()
        yield identified
        if identified.outcome == "failed":
            return
        checks: list[Callable[[], Finding]] = [
            self._answers_everything_once,
            self._matches_by_id,
            self._answers_the_same_again,
            self._averages_positions,
            self._keeps_its_revision,
        ]
        for check in checks:
            try:
                yield check()
            except (UnreadableAnswerError, JudgeChangedError) as error:
                yield Finding(_promise(check), "failed", str(error))
        for name, body in BAD_BODIES.items():
            yield self._refuses(name, body)

    def _says_who_it_is(self) -> Finding:
        """A request without items is answered with id and revision."""
        promise = _promise(self._says_who_it_is)
        answer = self._post({"items": []})
        try:
            if answer.status_code != 200:
                return Finding(promise, "failed", f"status {answer.status_code}: {answer.text[:200]}")
            self._identity = read_identity(answer.content)
        except UnreadableAnswerError as error:
            return Finding(promise, "failed", str(error))
        who = self._identity
        return Finding(promise, "passed", f"{who.id} at {who.revision}, both orders: {who.both_orders}")

    def _answers_everything_once(self) -> Finding:
        """Every comparison gets one result with a valid status and number."""
        opinions = self._ask(_comparisons(), "given")
        errors = [f"{name}: {opinion.error}" for name, opinion in opinions.items() if opinion.status == "error"]
        counts = ", ".join(
            f"{sum(o.status == status for o in opinions.values())} {status}" for status in ("ok", "tie", "abstain")
        )
        promise = _promise(self._answers_everything_once)
        if errors:
            return Finding(promise, "failed", f"{len(errors)} of {len(opinions)} failed, the first: {errors[0][:200]}")
        return Finding(promise, "passed", counts)

    def _matches_by_id(self) -> Finding:
        """The order of the items changes no answer."""
        forward = self._ask(_comparisons(), "given")
        backward = self._ask(dict(reversed(_comparisons().items())), "given")
        return self._same(_promise(self._matches_by_id), forward, backward)

    def _answers_the_same_again(self) -> Finding:
        """Equal questions get equal answers, unless the judge says that it is stochastic."""
        first, second = (self._ask(_comparisons(), "both") for _ in range(2))
        return self._same(_promise(self._answers_the_same_again), first, second)

    def _averages_positions(self) -> Finding:
        """Asked for both orders, P(a beats b) and P(b beats a) add up to one."""
        promise = _promise(self._averages_positions)
        given = self._ask(_comparisons(), "both")
        turned = self._ask({name: (second, first) for name, (first, second) in _comparisons().items()}, "both")
        gaps = [
            abs(one.probability + other.probability - 1.0)
            for one, other in ((given[name], turned[name]) for name in given)
            if one.probability is not None and other.probability is not None
        ]
        largest = max(gaps, default=0.0)
        if self._who().both_orders:
            return Finding(promise, "failed" if largest > 1e-6 else "passed", f"largest gap {largest:.3g}")
        return Finding(promise, "noted", f"the oracle asks both orders itself; position bias up to {largest / 2:.3g}")

    def _keeps_its_revision(self) -> Finding:
        """A request for another revision is refused with 409."""
        promise = _promise(self._keeps_its_revision)
        body = self._body(_comparisons(), "given") | {"judge_revision": "not-the-revision-of-any-judge"}
        status = self._post(body).status_code
        if status == 409:
            return Finding(promise, "passed", "status 409")
        return Finding(promise, "noted", f"status {status}; the oracle compares the answer's identity itself")

    def _refuses(self, name: str, body: bytes) -> Finding:
        promise = f"Refuses {name} with 4xx"
        answer = self._send(content=body, headers={"content-type": "application/json"})
        if not 400 <= answer.status_code < 500:
            return Finding(promise, "failed", f"status {answer.status_code}")
        problem = answer.headers.get("content-type", "").startswith("application/problem+json")
        detail = f"status {answer.status_code}" + ("" if problem else ", not as application/problem+json")
        return Finding(promise, "passed" if problem else "noted", detail)

    def _same(self, promise: str, one: dict[str, Opinion], other: dict[str, Opinion]) -> Finding:
        differing = [name for name in one if _said(one[name]) != _said(other[name])]
        if not differing:
            return Finding(promise, "passed", f"{len(one)} comparisons")
        first = differing[0]
        detail = f"{len(differing)} differ, the first: {_said(one[first])} and {_said(other[first])}"
        return Finding(promise, "noted" if self._who().stochastic else "failed", detail)

    def _ask(self, comparisons: dict[str, tuple[str, str]], order: Order) -> dict[str, Opinion]:
        answer = self._post(self._body(comparisons, order))
        if answer.status_code != 200:
            raise UnreadableAnswerError(f"status {answer.status_code}: {answer.text[:200]}")
        return read_answers(answer.content, asked=tuple(comparisons), identity=self._who(), order=order, latency_s=0.0)

    def _body(self, comparisons: dict[str, tuple[str, str]], order: Order) -> dict[str, Any]:
        items = [
            {
                "id": name,
                "prompt": [{"role": "user", "content": "Which answer is better?"}],
                "responses": [{"id": FIRST, "content": first}, {"id": SECOND, "content": second}],
                "pairs": [[FIRST, SECOND]],
            }
            for name, (first, second) in comparisons.items()
        ]
        return {"items": items, "order": order}

    def _who(self) -> JudgeIdentity:
        return cast(JudgeIdentity, self._identity)

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        return self._send(json=body if self.judge is None else {"judge": self.judge, **body})

    def _send(self, **content: Any) -> httpx.Response:
        try:
            return self.client.post(self.url, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UserError(f"{self.url}: {error or type(error).__name__}") from None


def _comparisons() -> dict[str, tuple[str, str]]:
    """Every text against every other one, equal ones included."""
    return {f"{i}-{j}": (first, second) for i, first in enumerate(TEXTS) for j, second in enumerate(TEXTS) if i <= j}


def _said(opinion: Opinion) -> tuple[str, float | None]:
    return opinion.status, opinion.probability


def _promise(check: Callable[[], Finding]) -> str:
    return (check.__doc__ or "").strip().splitlines()[0].removesuffix(".")
