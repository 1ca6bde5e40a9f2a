"""Judges behind URLs without a network: what they are asked is recorded, what they answer is scripted."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from services.oracle.judge import Comparison, Judge
from services.oracle.judges.http.judge import HttpAccess, build
from shared.contracts.judges import HttpJudge
from shared.contracts.records import Message
from shared.store.artifacts.store import ArtifactStore
from shared.store.board.memory_board import MemoryBudget
from shared.store.queue.memory_queue import ManualClock

URL = "http://127.0.0.1:9000/v1/judgments"
IDENTITY = {"id": "shorter", "revision": "1"}

Answer = Callable[[dict[str, Any]], httpx.Response]
Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


def shorter(item: dict[str, Any]) -> float:
    """P(first is better): .9 for the shorter response."""
    first, second = (len(response["content"]) for response in item["responses"])
    return 0.5 if first == second else 0.9 if first < second else 0.1


def results(request: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    """What an honest judge answers; `changes` replace fields of every result."""
    return [
        {"item_id": item["id"], "pair": item["pairs"][0], "status": "ok", "p": shorter(item)} | changes
        for item in request["items"]
    ]


def honest(request: dict[str, Any]) -> httpx.Response:
    """A judge that answers the order that it is asked."""
    return httpx.Response(200, json={"judge": IDENTITY, "results": results(request)})


class ScriptedJudge:
    """Answers with the next of its script, then honestly. A script holds answers, responses or exceptions.

    Requests without items, which ask who the judge is, are always answered honestly and not counted.
    """

    def __init__(self, *script: Answer | httpx.Response | Exception, identity: Answer = honest) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[httpx.Headers] = []
        self.num_identity = 0
        self._script = list(script)
        self._identity = identity

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.headers.append(request.headers)
        if not body["items"]:
            self.num_identity += 1
            return self._identity(body)
        self.requests.append(body)
        step = self._script.pop(0) if self._script else honest
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else step(body)

    @property
    def asked(self) -> list[tuple[str, str]]:
        """All pairs of texts asked, in order."""
        items = [item for request in self.requests for item in request["items"]]
        return [(item["responses"][0]["content"], item["responses"][1]["content"]) for item in items]


class _Unread(httpx.AsyncBaseTransport):
    """Calls the judge and hands its answer over as the network would: unread."""

    def __init__(self, judge: Handler) -> None:
        self._judge = judge

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._judge(request)
        if not answer.is_stream_consumed:
            return answer
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))


def http_judge(scripted: Handler, store: ArtifactStore, *, access: dict[str, Any] | None = None, **spec: Any) -> Judge:
    """A judge behind `URL`, built as the oracle builds it."""
    lent: dict[str, Any] = {"prefixes": ["http://127.0.0.1:*"], "budget": MemoryBudget(ManualClock())}
    lent |= {"transport": _Unread(scripted)}
    allowed = HttpAccess(**lent | (access or {}))
    return build(HttpJudge.model_validate({"url": URL, "order": "given"} | spec), allowed, store)


def ask(*pairs: Sequence[str]) -> list[Comparison]:
    """Comparisons under one prompt."""
    prompt = [Message(role="user", content="which?")]
    return [Comparison(prompt, first, second) for first, second in pairs]
