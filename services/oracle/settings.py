"""Settings of the oracle."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.oracle.judge import OWN_RULES
from shared.runtime.http.app import HttpSettings

JudgeKind = Literal["rules", "reward_model", "pair_model"]
# A port of its own: on others of this machine listen vLLM, Redis, and whatever else trusts loopback.
_JUDGES_PORT = ("http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000")


class OracleSettings(HttpSettings):
    """Read from `INPO_…` environment variables, e.g. INPO_ORACLE_DEVICE."""

    port: int = Field(default=8001, ge=0, le=65535, description="Port of the oracle's API.")
    oracle_role: Literal["all", "api", "worker"] = Field(
        default="all", description="`api` answers POST /v1/judgments, `worker` judges shards, `all` does both."
    )
    oracle_device: str = Field(default="auto", description="Where local judges compute: auto, cpu, cuda, cuda:1.")
    oracle_max_judges: int = Field(default=4, ge=1, description="Judges kept loaded; the one unused longest goes.")
    oracle_remembered_answers: int = Field(default=100_000, ge=0, description="Answers kept in memory, a judge.")
    oracle_retry_pause_s: float = Field(
        default=1.0, gt=0.0, description="First pause before a failing judge is asked again; it doubles each time."
    )
    oracle_api_kinds: tuple[JudgeKind, ...] = Field(
        default=("rules", "reward_model", "pair_model"), description="Kinds of judges that API requests may name."
    )
    oracle_entry_points: tuple[str, ...] = Field(
        default=(OWN_RULES,),
        description="Prefixes of the rules' entry points that runs and API requests may name: importing is running "
        'code. Add your own as JSON, e.g. `["services.oracle.rules.", "my_rules."]`; they must be installed, or on '
        "PYTHONPATH.",
    )
    oracle_http_judges: tuple[str, ...] = Field(
        default=_JUDGES_PORT,
        description="URLs, as JSON, below which `http` judges may be: scheme, host, port (`*` is any) and path.",
    )
    oracle_http_key_files: dict[str, Path] = Field(
        default={}, description="JSON from such a prefix to a file whose first line is the bearer key for it."
    )
    oracle_keep_verdicts: tuple[JudgeKind, ...] = Field(
        default=("pair_model",),
        description="Local kinds whose verdicts are kept in the artifact store and never asked again; those of "
        "external judges always are.",
    )
    oracle_api_max_comparisons: int = Field(default=4096, ge=1, description="Comparisons a request may ask for.")
