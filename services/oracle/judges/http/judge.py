"""Judges behind a URL that answer `POST /v1/judgments`: the oracle calls them."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import httpx

from services.oracle.judge import Comparison, Judge, JudgeBuildError, JudgeUnavailableError, Opinion, failure
from services.oracle.judges.http.allowed_urls import check_allowed, key_for
from services.oracle.judges.http.answers import FIRST, SECOND, UnreadableAnswerError, read_answers, read_identity
from services.oracle.judges.http.client import FailedRequestError, JudgeClient, Quota
from services.oracle.verdicts.cache import BothOrders, CachingJudge, Keep
from shared.contracts.judges import HttpJudge, Order
from shared.contracts.rest.judging import JudgeIdentity
from shared.store.artifacts.store import ArtifactStore
from shared.store.board.budget import Budget

_IDENTITY_DEADLINE_S = 30.0
# A worker does not stay with a slow judge up to its deadline: what is answered is kept, the rest comes back.
_LONGEST_ASKING_S = 600.0
# What was asked may be to blame: a request of several comparisons is taken apart to find out which.
_TO_BE_SPLIT = frozenset({400, 413, 422, 500, 501})

Questions = Mapping[str, Comparison]


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """What an oracle allows and lends to judges behind URLs. `transport` replaces the network in tests."""

    prefixes: Sequence[str]
    budget: Budget
    key_files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    transport: httpx.AsyncBaseTransport | None = None


def build(spec: HttpJudge, access: HttpAccess, store: ArtifactStore) -> Judge:
    """The judge behind the URL, with its verdicts kept in `store`, in the orders that the specification wants.

    It is asked who it is: `JudgeBuildError` where that, or the URL, cannot work, and whatever `Judge.compare` raises.
    """
    asker = PushedJudge(spec, access)
    judge = CachingJudge(asker, store, order=asker.order)
    return BothOrders(judge) if spec.order == "both" and asker.order == "given" else judge


class PushedJudge:
    """See `Asker`. `order` is the one that every request asks for."""

    def __init__(self, spec: HttpJudge, access: HttpAccess) -> None:
        check_allowed(spec.url, access.prefixes)
        self._spec = spec
        self._access = access
        self._identity = asyncio.run(self._ask_identity())
        averages = self._identity.both_orders or self._identity.transitive
        self.order: Order = "both" if spec.order == "both" and averages else "given"
        if spec.judge_revision not in (None, self._identity.revision):
            reason = f"{spec.judge_revision} is asked for, the judge is at {self._identity.revision}"
            raise JudgeBuildError("judge_revision", reason)

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        return self._identity

    def ask(self, questions: Questions, keep: Keep) -> Mapping[str, Opinion]:
        """See `Asker.ask`. Several requests are under way at once; what they answer is kept one request at a time."""
        return asyncio.run(self._ask_all(questions, keep))

    async def _ask_all(self, questions: Questions, keep: Keep) -> dict[str, Opinion]:
        keys = list(questions)
        batches = [keys[start : start + self._spec.max_batch] for start in range(0, len(keys), self._spec.max_batch)]
        gate = asyncio.Semaphore(self._spec.max_concurrency)
        opinions: dict[str, Opinion] = {}
        errors: list[Exception] = []
        ends = monotonic() + _LONGEST_ASKING_S

        async def batch(client: JudgeClient, some: list[str]) -> None:
            async with gate:
                if monotonic() > ends and not errors:
                    errors.append(JudgeUnavailableError(f"{self._spec.url} is slow, the rest is asked later"))
                if errors:
                    return
                try:
                    opinions.update(await self._ask_some(client, {key: questions[key] for key in some}, keep))
                except Exception as error:  # noqa: BLE001  (raised below: what is under way is still heard and kept)
                    errors.append(error)

        async with self._session() as client:
            await asyncio.gather(*(batch(client, some) for some in batches))
        if errors:
            raise errors[0]
        return opinions

    async def _ask_some(self, client: JudgeClient, questions: Questions, keep: Keep) -> dict[str, Opinion]:
        started = perf_counter()
        try:
            body = await client.post(self._body(questions), self._spec.deadline_s)
        except FailedRequestError as error:
            return await self._without_the_faulty(client, questions, keep, error)
        opinions = read_answers(
            body,
            asked=tuple(questions),
            identity=self._identity,
            order=self.order,
            latency_s=(perf_counter() - started) / len(questions),
        )
        await asyncio.to_thread(keep, opinions)
        return opinions

    async def _without_the_faulty(
        self, client: JudgeClient, questions: Questions, keep: Keep, error: FailedRequestError
    ) -> dict[str, Opinion]:
        """The judge failed on these comparisons, if it is there at all: those to blame fail, the others are asked."""
        await self._check_alive(client, error)
        keys = list(questions)
        if len(keys) == 1 or error.status not in _TO_BE_SPLIT:
            return {key: failure(str(error), 0.0) for key in keys}
        opinions: dict[str, Opinion] = {}
        for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
            opinions |= await self._ask_some(client, {key: questions[key] for key in half}, keep)
        return opinions

    async def _check_alive(self, client: JudgeClient, error: FailedRequestError) -> None:
        try:
            await client.post(self._body({}), min(self._spec.deadline_s, _IDENTITY_DEADLINE_S))
        except FailedRequestError:
            raise JudgeUnavailableError(f"{error}, nor does it say who it is") from error

    async def _ask_identity(self) -> JudgeIdentity:
        async with self._session() as client:
            try:
                return read_identity(await client.post(self._body({}), _IDENTITY_DEADLINE_S))
            except FailedRequestError as error:
                if error.status is None or error.status >= 500:
                    raise JudgeUnavailableError(str(error)) from error
                raise JudgeBuildError("url", f"asked who it is, {error}") from error
            except UnreadableAnswerError as error:
                raise JudgeBuildError("url", f"{self._spec.url}: {error}") from error

    def _body(self, questions: Questions) -> dict[str, Any]:
        spec = self._spec
        body: dict[str, Any] = {"deadline_s": spec.timeout_s, "items": [_item(*entry) for entry in questions.items()]}
        if questions:
            body |= {"order": self.order, "judge_revision": self._identity.revision}
        return body if spec.judge is None else {"judge": spec.judge, **body}

    def _session(self) -> "_Session":
        spec = self._spec
        key = key_for(spec.url, self._access.key_files)
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        quota = Quota(self._access.budget, spec.url, spec.max_requests_per_minute)
        return _Session(spec, headers, quota, self._access.transport)


class _Session:
    """The connections of one asking."""

    def __init__(
        self, spec: HttpJudge, headers: dict[str, str], quota: Quota, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        limits = httpx.Limits(max_connections=spec.max_concurrency)
        self._client = httpx.AsyncClient(
            verify=_certificates(),
            transport=transport,
            limits=limits,
            timeout=None,  # noqa: S113  (the whole try has a limit)
            trust_env=False,
            follow_redirects=False,
        )
        self._judge = JudgeClient(self._client, spec.url, headers=headers, timeout_s=spec.timeout_s, quota=quota)

    async def __aenter__(self) -> JudgeClient:
        await self._client.__aenter__()
        return self._judge

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()


@cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()


def _item(key: str, comparison: Comparison) -> dict[str, Any]:
    return {
        "id": key,
        "prompt": [message.model_dump() for message in comparison.prompt],
        "responses": [{"id": FIRST, "content": comparison.first}, {"id": SECOND, "content": comparison.second}],
        "pairs": [[FIRST, SECOND]],
    }
