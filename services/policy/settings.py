"""Settings of the policy service."""

from typing import Literal

from pydantic import Field

from shared.runtime.http import HttpSettings


class PolicySettings(HttpSettings):
    """Read from `INPO_…` environment variables, e.g. `INPO_DEVICE`."""

    port: int = Field(default=8002, ge=0, le=65535, description="Port of the policy's API.")
    engine: str = Field(
        default="services.policy.transformers_engine:TransformersEngine",
        description="`module:callable`; called with these settings, it returns the engine.",
    )
    tokenizer: str = Field(
        default="services.policy.hf_tokenizer:HfTokenizer",
        description="`module:callable`; called with a weights directory, it returns its tokenizer.",
    )
    device: str = Field(default="auto", description="`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="What the weights are served in; anything below float32 needs a wider tolerance."
    )
    max_batch_rows: int = Field(default=128, ge=1, description="Responses generated at once.")
    num_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the engine; torch decides if unset."
    )
    canary_tolerance: float = Field(
        default=1e-3, gt=0.0, description="Largest |engine - trainer| log-prob of a canary token, in nats."
    )
    completion_idle_s: float = Field(
        default=5.0,
        ge=0.0,
        description="`/v1/completions` takes the engine for the promoted weights when no run had it for this long.",
    )
    completion_max_tokens: int = Field(
        default=2048, ge=1, description="Most tokens of a response of `/v1/completions`: a run's swap waits for it."
    )
