"""Settings of the policy service."""

from pathlib import Path

from pydantic import Field

from shared.contracts.weights import Precision
from shared.runtime.http.app import HttpSettings
from shared.runtime.key_files import read_private


class PolicySettings(HttpSettings):
    """Read from `INPO_…` environment variables, e.g. `INPO_DEVICE`."""

    port: int = Field(default=8002, ge=0, le=65535, description="Port of the policy's API.")
    engine: str = Field(
        default="transformers",
        description="`transformers` (in this process), `vllm` (a server), or `module:callable`; called with these "
        "settings, it returns the engine.",
    )
    tokenizer: str = Field(
        default="services.policy.drawing.hf_tokenizer:HfTokenizer",
        description="`module:callable`; called with a weights directory, it returns its tokenizer.",
    )
    device: str = Field(default="auto", description="`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`.")
    dtype: Precision = Field(default="float32", description="What the engine `transformers` computes in.")
    max_batch_rows: int = Field(default=128, ge=1, description="Responses generated at once.")
    num_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the engine; torch decides if unset."
    )
    canary_tolerance: float | None = Field(
        default=None,
        gt=0.0,
        description="Largest engine - trainer on the first canary, in nats a token (root mean square); it measures the "
        "engine's rounding, which later ones are held against. Unset: what the engine's precision allows.",
    )
    completion_idle_s: float = Field(
        default=5.0,
        ge=0.0,
        description="`/v1/completions` takes the engine for the promoted weights when no run had it for this long.",
    )
    completion_max_tokens: int = Field(
        default=2048, ge=1, description="Most tokens of a response of `/v1/completions`: a run's swap waits for it."
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Shards generated side by side: 4 by `vllm`, 1 by others if unset.",
    )
    vllm_url: str = Field(
        default="http://127.0.0.1:8010", description="Where the vLLM server is; for the engine `vllm` only."
    )
    vllm_api_key_file: Path | None = Field(
        default=None, description="File whose first line is the vLLM server's API key, if it wants one."
    )
    vllm_timeout_s: float = Field(default=600.0, gt=0.0, description="How long vLLM may take for one request.")
    vllm_patience_s: float = Field(
        default=300.0,
        ge=0.0,
        description="How long work waits for a vLLM server that is being started again before a try is counted.",
    )

    def vllm_key(self) -> str | None:
        """The vLLM server's API key; `ValueError` naming the setting when its file holds none."""
        if self.vllm_api_key_file is None:
            return None
        try:
            lines = read_private(self.vllm_api_key_file).splitlines()
        except (OSError, ValueError) as error:
            raise ValueError(f"INPO_VLLM_API_KEY_FILE: cannot read {self.vllm_api_key_file}: {error}") from error
        if not lines or not lines[0].strip():
            raise ValueError(f"INPO_VLLM_API_KEY_FILE: {self.vllm_api_key_file} is empty")
        return lines[0].strip()
