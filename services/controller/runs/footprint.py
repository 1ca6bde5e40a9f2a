"""What a run will need of the disk, estimated before it begins: weights are kept for ever, and are nearly all of it."""

import math
from dataclasses import dataclass
from pathlib import Path

from services.controller.reconciling.plan_building import num_half_steps
from shared.contracts.rest.runs import Advice
from shared.contracts.spec import RunSpec
from shared.store.weights.manifests import WeightsError, tensor_headers

# A checkpoint holds parameters and two moments in float32, and the one before it goes when it is complete.
_CHECKPOINT_BYTES_PER_PARAMETER = 2 * 3 * 4
# Of a sampled token: its id, its log-prob and its text, in rollouts; id and text again where it is part of a pair.
_BYTES_PER_TOKEN = 4 + 8 + 4 + 2 * (4 + 4)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes: of all weight versions, of the scratch of one half-step, and of what is sampled, judged and paired."""

    num_versions: int
    weights: int
    scratch: int
    texts: int

    @property
    def total(self) -> int:
        """At the most demanding moment, which is the last half-step."""
        return self.weights + self.scratch + self.texts

    def __str__(self) -> str:
        parts = f"{gigabytes(self.weights)} for {self.num_versions} versions of the weights"
        return f"{parts}, {gigabytes(self.scratch)} while training, {gigabytes(self.texts)} for texts at most"


def footprint(spec: RunSpec, num_prompts: int) -> Footprint | None:
    """The estimate; None for a model that is not on this machine, whose size is not known here."""
    directory = Path(spec.model.path).expanduser()
    try:
        sizes = [file.stat().st_size for file in directory.glob("*.safetensors")]
        shapes = [header.shape for header in tensor_headers(directory).values()]
    except (WeightsError, OSError):
        return None
    num_versions = 1 + sum(num_half_steps(spec, number) for number in range(1, spec.iterations + 1))
    responses = (spec.prompts.num_per_iteration or num_prompts) * spec.sampling.num_responses
    measured = spec.evaluation.num_prompts * spec.evaluation.num_responses * (spec.iterations + 1)
    tokens = (responses * (num_versions - 1) + measured) * spec.sampling.max_new_tokens
    return Footprint(
        num_versions=num_versions,
        weights=num_versions * sum(sizes),
        scratch=_CHECKPOINT_BYTES_PER_PARAMETER * sum(math.prod(shape) for shape in shapes),
        texts=tokens * _BYTES_PER_TOKEN,
    )


def shortage(found: Footprint | None, free: int | None) -> list[Advice]:
    """The warning about a disk on which the run would have to wait; none where there is room, or nobody knows."""
    if found is None or free is None or found.total <= free:
        return []
    message = (
        f"the run needs about {gigabytes(found.total)} of disk ({found}), but {gigabytes(free)} are free: make room "
    )
    return [
        Advice(field="iterations", message=f"{message}or ask for fewer; on a full disk it waits, and loses nothing")
    ]


def gigabytes(num_bytes: float) -> str:
    """For people."""
    return f"{num_bytes / 1e9:.3g} GB"
