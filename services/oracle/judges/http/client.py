"""One request to an external judge: bounded in time and size, retried where that may help, within the shared budget."""

import asyncio
import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import cast

import httpx

from services.oracle.judge import JudgeChangedError, JudgeRefusedError, JudgeUnavailableError
from shared.contracts.outside import cleaned, strict_json
from shared.store.board.budget import Budget

MAX_BODY_BYTES = 8 * 2**20
MAX_TRIES = 4
MAX_SAID_CHARS = 300
FIRST_PAUSE_S = 0.25
# The judge, or what stands before it, says that it cannot be reached now.
UNAVAILABLE = frozenset({429, 502, 503, 504})
WORTH_RETRYING = frozenset({408, 425, 429})


class FailedRequestError(RuntimeError):
    """The request failed, perhaps because of what it asks; `status` is None where there was no answer at all."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Quota:
    """The budget that requests to this judge are taken from."""

    budget: Budget
    name: str
    per_minute: float | None


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: str
    unavailable: bool
    status: int | None = None
    retry_after_s: float = 0.0


class JudgeClient:
    """Posts to one URL. Follows no redirect, uses no proxy, tells nobody the key."""

    def __init__(
        self, client: httpx.AsyncClient, url: str, *, headers: dict[str, str], timeout_s: float, quota: Quota
    ) -> None:
        self._client = client
        self._url = url
        self._headers = {"accept": "application/json", "accept-encoding": "identity", **headers}
        self._timeout_s = timeout_s
        self._quota = quota

    async def post(self, body: object, deadline_s: float) -> bytes:
        """The body of a 200. At most `MAX_TRIES` tries with jittered pauses, longer where the judge says so.

        `JudgeUnavailableError` when the judge cannot be asked at all, `FailedRequestError` when it failed on this
        request, `JudgeRefusedError` and `JudgeChangedError` when asking again cannot help.
        """
        ends = time.monotonic() + deadline_s
        for tried in range(1, MAX_TRIES + 1):
            await self._wait_for_budget(ends)
            answer = await self._try(body, ends)
            if isinstance(answer, bytes):
                return answer
            pause_s = max(answer.retry_after_s, FIRST_PAUSE_S * 2**tried * random.uniform(0.5, 1.0))  # noqa: S311
            if tried == MAX_TRIES or time.monotonic() + pause_s >= ends:
                raise _given_up(answer)
            await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _wait_for_budget(self, ends: float) -> None:
        quota = self._quota
        if quota.per_minute is None:
            return
        while wait_s := await asyncio.to_thread(quota.budget.take, quota.name, per_minute=quota.per_minute):
            if time.monotonic() + wait_s >= ends:
                raise JudgeUnavailableError("the budget of max_requests_per_minute is spent", retry_after_s=wait_s)
            await asyncio.sleep(wait_s)

    async def _try(self, body: object, ends: float) -> bytes | _Fault:
        limit_s = max(0.001, min(self._timeout_s, ends - time.monotonic()))
        try:
            # The limit holds for all of it: a judge that sends a byte a second is too slow as well.
            async with asyncio.timeout(limit_s):
                return await self._send(body)
        except TimeoutError:
            return _Fault(f"no answer within {limit_s:.1f} s", unavailable=False)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Fault(f"cannot connect: {error or type(error).__name__}", unavailable=True)
        except httpx.TransportError as error:
            return _Fault(f"the connection broke: {error or type(error).__name__}", unavailable=False)

    async def _send(self, body: object) -> bytes | _Fault:
        async with self._client.stream("POST", self._url, json=body, headers=self._headers) as response:
            status = response.status_code
            if status != 200 and (status in WORTH_RETRYING or status >= 500):
                return await self._busy(response)
            content = await _read(response)
        if status == 200:
            return content
        reason = f"{self._url} answers {status}: {_said(content)}"
        if status == 409:
            raise JudgeChangedError(reason)
        if status in (400, 413, 422):
            raise FailedRequestError(reason, status)
        raise JudgeRefusedError(f"{reason}{_REMEDIES.get(status, '')}")

    async def _busy(self, response: httpx.Response) -> _Fault:
        status, retry_after_s = response.status_code, _retry_after_s(response)
        quota = self._quota
        if quota.per_minute is not None and retry_after_s > 0:
            await asyncio.to_thread(quota.budget.hold, quota.name, retry_after_s)
        return _Fault(f"{self._url} answers {status}", status in UNAVAILABLE, status, retry_after_s)


_REMEDIES = {
    401: "; give its key in INPO_ORACLE_HTTP_KEY_FILES",
    403: "; give its key in INPO_ORACLE_HTTP_KEY_FILES",
    404: "; oracle.judge.url is the full URL of its /v1/judgments",
}


def _said(content: bytes) -> str:
    """What a judge says of its refusal in the words of a problem; nothing of what was not said to be read by us."""
    try:
        value = strict_json(content)
    except ValueError:
        value = None
    said = cast(dict[str, object], value) if isinstance(value, dict) else {}
    words = [word for name in ("title", "detail") if isinstance(word := said.get(name), str)]
    return cleaned(": ".join(words) or "without a title or a detail", MAX_SAID_CHARS)


def _given_up(fault: _Fault) -> Exception:
    if fault.unavailable:
        return JudgeUnavailableError(fault.reason, retry_after_s=fault.retry_after_s)
    return FailedRequestError(fault.reason, fault.status)


async def _read(response: httpx.Response) -> bytes:
    """The body as sent; `FailedRequestError` when it is too large or packed, whatever it would have said."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise FailedRequestError("the judge's answer is compressed, which was not asked for", response.status_code)
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise FailedRequestError(f"the judge's answer is larger than {MAX_BODY_BYTES} bytes", response.status_code)
        chunks.append(chunk)
    return b"".join(chunks)


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds from `Retry-After`, which holds a number or a date; 0 where it holds neither. At most an hour."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(float(text[:9]), 3600.0)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    return min(max(0.0, date.timestamp() - time.time()), 3600.0)
