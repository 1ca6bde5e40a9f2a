"""Whether the server survives a batch at all: below float32 vLLM kills itself with some models on a CPU (SIGILL)."""

from concurrent.futures import ThreadPoolExecutor

from services.policy.engine import EngineError, EngineUnavailableError
from services.policy.engines.vllm.client import VllmClient
from services.policy.engines.vllm.serving import SERVED_NAME

NUM_REQUESTS = 16
NUM_RESPONSES = 4


def self_test(client: VllmClient, dtype: str) -> None:
    """Generate a batch of short prompts; `EngineError` with the remedy when the server dies of it."""

    def ask(index: int) -> int:
        body: dict[str, object] = {
            "model": SERVED_NAME,
            # Prompts of one token and of a few: the kernels differ.
            "prompt": [1] * (1 + index % 4),
            "n": NUM_RESPONSES,
            "seed": index,
            "max_tokens": 4,
            "temperature": 1.0,
            "ignore_eos": True,
            "logprobs": 0,
            "return_token_ids": True,
        }
        return sum(len(choice.token_ids or []) for choice in client.complete(body).choices)

    try:
        with ThreadPoolExecutor(NUM_REQUESTS) as pool:
            counts = list(pool.map(ask, range(NUM_REQUESTS)))
    except EngineUnavailableError as error:
        raise EngineError(
            f"vLLM died of a first small batch in {dtype}: this model cannot be served in it on this machine. "
            f"Use float32 (INPO_DTYPE, or --dtype of `inpo up` and of the server) ({error})"
        ) from error
    if counts != [4 * NUM_RESPONSES] * NUM_REQUESTS:
        raise EngineError(f"vLLM in {dtype} answered a first small batch with {counts} tokens: use float32")
