"""What the vLLM server answers, as far as the engine reads it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.weights import Precision


class Answer(BaseModel):
    """Part of an answer; whatever else a server says is ignored. Numbers must be finite."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class TokenLogProbs(Answer):
    """`logprobs` of a choice: of the sampled tokens, at temperature 1 and before top-p, in nats."""

    token_logprobs: list[float]


class PromptLogProb(Answer):
    """One entry of `prompt_logprobs`."""

    logprob: float


class Choice(Answer):
    """One response. `index` counts the responses of a request; seeds are the request's plus the index."""

    index: int
    finish_reason: Literal["stop", "length", "abort", "error"] | None
    token_ids: list[int] | None = None
    logprobs: TokenLogProbs | None = None
    prompt_logprobs: list[dict[int, PromptLogProb] | None] | None = None


class Completions(Answer):
    """Answer of `POST /v1/completions`."""

    choices: list[Choice]


class WeightInfo(Answer):
    """Answer of `GET /weight_info`."""

    weight_version: str | None


class TensorInfo(Answer):
    """A tensor of the checkpoint that the server was started on."""

    dtype: str
    shape: tuple[int, ...]


class ServedModel(Answer):
    """Answer of the extension's `served_model`: what any checkpoint must look like to be loaded."""

    directory: str
    dtype: Precision
    max_model_len: int
    tied: bool
    tensors: dict[str, TensorInfo] = Field(min_length=1)


class RpcResults(Answer):
    """Answer of `POST /collective_rpc`: one result for each worker process of the server."""

    results: list[object] = Field(min_length=1)
