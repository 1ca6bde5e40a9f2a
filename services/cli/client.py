"""The controller's REST API as the commands use it; whatever goes wrong is one `ApiError` with a remedy."""

import itertools
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from services.cli.failures import ApiError, UserError
from shared.contracts.rest.problems import Problem
from shared.contracts.rest.runs import IterationList, IterationView, RunDetail, RunList, RunView, WeightsList
from shared.contracts.spec import RunSpec
from shared.contracts.weights import PromotedWeights, Promotion
from shared.runtime.http.access import read_keys

TIMEOUT_S = 30.0
CREATE_TIMEOUT_S = 600.0  # creating a run may download its prompts
PAGE = 500  # rows of a list, the most that the controller gives at once
CREATE_PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # between the tries

_LOOPBACK = ("http://127.", "http://localhost", "http://[::1]")

# A controller may restart between two requests; a connection that was kept would fail then.
_NOTHING_KEPT = httpx.Limits(max_keepalive_connections=0)

ModelT = TypeVar("ModelT", bound=BaseModel)


class Api:
    """A controller at an address. Every method may raise `ApiError`."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pause = pause
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ApiError(f"{url!r} is not the address of a controller, such as http://127.0.0.1:8000")
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(
            base_url=self.url,
            headers=headers,
            transport=transport,
            # A proxy of the environment is for the world outside, not for this machine.
            trust_env=not self.url.startswith(_LOOPBACK),
            limits=_NOTHING_KEPT,
        )

    def create_run(self, spec: RunSpec) -> RunDetail:
        """`POST /v1/runs`. Sent again when no answer came, with the same key, so that one run is made all the same."""
        body = spec.model_dump_json().encode()
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        for attempt in itertools.count():
            try:
                return self._ask("POST", "/v1/runs", RunDetail, body=body, headers=headers, timeout_s=CREATE_TIMEOUT_S)
            except ApiError as error:
                nobody_there = error.unsent and attempt == 0
                if not error.retryable or nobody_there or attempt == len(CREATE_PAUSES_S):
                    raise
            self._pause(CREATE_PAUSES_S[attempt])
        raise AssertionError("unreachable")

    def run(self, run: str) -> RunDetail:
        """`GET /v1/runs/{id}`."""
        return self._ask("GET", _of(run), RunDetail)

    def runs(self) -> list[RunView]:
        """`GET /v1/runs`, page after page: all runs, newest first."""
        runs: list[RunView] = []
        query: str | None = f"limit={PAGE}"
        while query is not None:
            page = self._ask("GET", f"/v1/runs?{query}", RunList)
            runs += page.runs
            query = None if page.next is None else f"limit={PAGE}&before={quote(page.next, safe='')}"
        return runs

    def change(self, run: str, action: Literal["pause", "resume", "cancel"]) -> RunDetail:
        """`POST /v1/runs/{id}:{action}`."""
        return self._ask("POST", f"{_of(run)}:{action}", RunDetail)

    def iterations(self, run: str) -> list[IterationView]:
        """`GET /v1/runs/{id}/iterations`, page after page: all that are committed, without digests."""
        rows: list[IterationView] = []
        following: int | None = 0
        while following is not None:
            page = self._ask("GET", f"{_of(run)}/iterations?limit={PAGE}&offset={following}", IterationList)
            rows += page.iterations
            following = page.next
        return rows

    def weights(self) -> WeightsList:
        """`GET /v1/weights`."""
        return self._ask("GET", "/v1/weights", WeightsList)

    def promoted(self) -> PromotedWeights:
        """`GET /v1/weights/promoted`."""
        return self._ask("GET", "/v1/weights/promoted", PromotedWeights)

    def promote(self, run: str, number: int) -> Promotion:
        """`POST /v1/weights/{run}@{number}:promote`."""
        return self._ask("POST", f"/v1/weights/{quote(run, safe='')}@{number}:promote", Promotion)

    def roll_back(self) -> Promotion:
        """`POST /v1/weights:rollback`."""
        return self._ask("POST", "/v1/weights:rollback", Promotion)

    def _ask(
        self,
        method: str,
        path: str,
        model: type[ModelT],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> ModelT:
        sent = {**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}
        try:
            answer = self._client.request(method, path, content=body, headers=sent, timeout=timeout_s)
        except httpx.TimeoutException:
            reason = f"{self.url} did not answer within {timeout_s:.0f} s: see the controller's log"
            raise ApiError(reason, retryable=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise ApiError(
                f"cannot reach a controller at {self.url} ({error or type(error).__name__}): "
                "start one with `inpo up`, or name another with --url or INPO_URL",
                retryable=isinstance(error, httpx.TransportError),
                unsent=isinstance(error, httpx.ConnectError),
            ) from None
        if not answer.is_success:
            raise _refusal(self.url, answer)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            raise _foreign(self.url, answer) from None


def _of(run: str) -> str:
    return f"/v1/runs/{quote(run, safe='')}"


def bearer_key(key_file: Path | None, key: str | None) -> str | None:
    """The first key of INPO_API_KEY_FILE, which may be a service's own key file, else that of INPO_API_KEY."""
    if key_file is None:
        return key or None
    try:
        return read_keys(key_file)[0].secret
    except ValueError as error:
        raise UserError(str(error)) from None


def _refusal(url: str, answer: httpx.Response) -> ApiError:
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        return _foreign(url, answer)
    if problem.status == 401:
        message = f"{url} wants a key: set INPO_API_KEY_FILE (or INPO_API_KEY) to the controller's"
    elif problem.status == 403:
        message = f"{problem.title}: {problem.detail} The key is the first of INPO_API_KEY_FILE, or INPO_API_KEY"
    elif problem.errors:
        message = "\n".join([f"{problem.title}:", *(f"  {item.field}: {item.message}" for item in problem.errors)])
    else:
        message = f"{problem.title}: {problem.detail}"
    return ApiError(message, answer.status_code, retryable=problem.retryable)


def _foreign(url: str, answer: httpx.Response) -> ApiError:
    return ApiError(
        f"{url} answered {answer.status_code} with something that is not a controller's: "
        "is another program or another version listening there? Choose the address with --url or INPO_URL",
        answer.status_code,
        retryable=answer.status_code in (502, 503, 504),
    )
