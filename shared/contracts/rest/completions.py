"""REST bodies of the policy service: the part of OpenAI's completions API that can be answered honestly.

What cannot is refused by name. `user` is accepted and ignored; the other fields that clients send by habit are accepted
at the values at which they ask for nothing.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from shared.contracts.base import Fact, Input
from shared.contracts.records import FinishReason

PROMOTED = "promoted"

TokenId = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
Text = Annotated[str, Field(max_length=1_000_000)]


def _or_say(reason: str) -> WrapValidator:
    """The type's own check, with this message when it fails."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("not_offered", "{reason}", {"reason": reason}) from None

    return WrapValidator(check)


class CompletionRequest(Input):
    """`POST /v1/completions`."""

    model: str = Field(
        default=PROMOTED, max_length=200, description="`promoted`, or the name that `GET /v1/models` shows."
    )
    prompt: Text | list[Text] | TokenIds | list[TokenIds] = Field(
        description="Text, token ids, or a list of either. Fed as it is: no chat template is applied."
    )
    max_tokens: int = Field(default=16, ge=1, description="Responses are cut here.")
    n: int = Field(default=1, ge=1, le=1024, description="Responses to each prompt.")
    temperature: Annotated[
        float, _or_say("must be between 0.01 and 10; greedy decoding (0) is not offered, every draw follows the seed")
    ] = Field(default=1.0, ge=0.01, le=10.0, description="1 samples the policy itself; greedy (0) is not offered.")
    top_p: float = Field(default=1.0, gt=0.0, le=1.0, description="1 keeps the whole distribution.")
    seed: int | None = Field(
        default=None, ge=0, lt=2**63, description="The same seed, prompt and weights give the same response."
    )
    logprobs: Annotated[
        int | None, _or_say("only 0 is offered: the log-probs of the tokens that were drawn, without alternatives")
    ] = Field(default=None, ge=0, le=0, description="0: with the log-prob of every token drawn, at temperature 1.")
    return_token_ids: bool = Field(default=False, description="With the token ids of prompt and response.")
    user: str | None = Field(default=None, description="Ignored.")
    stream: Annotated[Literal[False] | None, _or_say("streaming is not offered; leave it out")] = None
    stop: Annotated[
        list[Any] | None, _or_say("stop texts are not offered: a response ends at the model's own stop token")
    ] = Field(default=None, max_length=0)
    echo: Annotated[Literal[False] | None, _or_say("echoing the prompt is not offered")] = None
    best_of: Annotated[Literal[1] | None, _or_say("best_of is not offered; `n` gives several responses")] = None
    suffix: Annotated[Literal[""] | None, _or_say("insertion before a suffix is not offered")] = None
    logit_bias: Annotated[dict[str, Any] | None, _or_say("it would answer with another policy than the promoted")] = (
        Field(default=None, max_length=0)
    )
    frequency_penalty: Annotated[
        float | None, _or_say("must be 0: it would answer with another policy than the promoted")
    ] = Field(default=None, ge=0.0, le=0.0)
    presence_penalty: Annotated[
        float | None, _or_say("must be 0: it would answer with another policy than the promoted")
    ] = Field(default=None, ge=0.0, le=0.0)


class CompletionLogprobs(Fact):
    """Of every token drawn, the stop token included."""

    tokens: list[str]
    token_logprobs: list[float] = Field(description="log pi(token) at temperature 1, before top-p, in nats")
    top_logprobs: None = None
    text_offset: None = None


class CompletionChoice(Fact):
    """One response."""

    index: int = Field(description="prompt by prompt, `n` for each")
    text: str = Field(description="without special tokens")
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason
    token_ids: list[int] | None = Field(description="with the stop token, where `finish_reason` is `stop`")
    prompt_token_ids: list[int] | None


class CompletionUsage(Fact):
    """Counts of tokens; every prompt counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionResponse(Fact):
    """All responses, sampled by one weight version."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int = Field(description="seconds since 1970, UTC")
    model: str = Field(description="`run@number` of the weights that answered")
    digest: str = Field(description="digest of the weights that answered")
    choices: list[CompletionChoice]
    usage: CompletionUsage


class ServedModel(Fact):
    """The promoted weight version, as OpenAI's model list shows one."""

    id: str = Field(description="`run@number`")
    object: Literal["model"] = "model"
    created: int = Field(description="when it was promoted, seconds since 1970, UTC")
    owned_by: Literal["inpo"] = "inpo"
    digest: str
    live: bool = Field(description="whether this replica's engine serves it at this moment")


class ServedModels(Fact):
    """`GET /v1/models`: the promoted version, or nothing."""

    object: Literal["list"] = "list"
    data: list[ServedModel]
