# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""`torchrun … -m services.trainer.processes.rank_main FOLDER`: one rank of a training group.

assignment.json → torch.distributed → runner of this strategy → train or score → result.json (rank 0)
                                                             └─ raises → failure-<rank>.json
"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from services.trainer.processes import lifeline
from services.trainer.processes.assignment import (
    ASSIGNMENT,
    LIFELINE,
    RESULT,
    Assignment,
    Failure,
    Result,
    failure_path,
    write_json,
)
from services.trainer.settings import TrainerSettings
from shared.runtime.telemetry import configure_logging
from shared.store.artifacts.refusals import refusal

if TYPE_CHECKING:
    from torch import device

log = structlog.get_logger(__name__)


def main() -> int:
    """Exit status 0 when this rank's part is done, and on rank 0 the result is durable."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    lifeline.follow(folder / LIFELINE)
    assignment = Assignment.model_validate_json((folder / ASSIGNMENT).read_bytes())
    settings = assignment.settings
    configure_logging("trainer", settings.log_level if rank == 0 else "WARNING")
    structlog.contextvars.bind_contextvars(rank=rank, item=assignment.item.id)
    try:
        summary = _work(assignment)
    except Exception as error:
        log.exception("rank_failed")
        refused = refusal(error, settings.store_dir)
        failure = Failure(
            rank=rank,
            error=type(error).__name__,
            message=str(error),
            errno=None if refused is None else refused.errno,
            at_s=time.time(),
        )
        write_json(failure_path(folder, rank), failure)
        return 1
    if rank == 0:
        write_json(folder / RESULT, Result(summary=summary))
    return 0


def _work(assignment: Assignment) -> dict[str, object]:
    # Imported now, so that this rank already ends with the worker while it waits for torch.
    import torch  # noqa: PLC0415

    settings = assignment.settings
    if settings.trainer_num_threads is not None:
        torch.set_num_threads(settings.trainer_num_threads)
    device = _device(settings)
    # Before anything imports deepspeed, which looks for it once.
    os.environ["DS_ACCELERATOR"] = device.type
    from services.trainer.processes.rank_runner import make_runner  # noqa: PLC0415  (slow)
    from services.trainer.ranks import Ranks  # noqa: PLC0415
    from shared.contracts.plans import EvaluationPlan, HalfStepPlan  # noqa: PLC0415
    from shared.runtime.opening import named_store  # noqa: PLC0415
    from shared.store.artifacts.runs import read_plan  # noqa: PLC0415

    # Both backends on GPUs: figures are summed in host memory, tensors on the devices. We initialise, and DeepSpeed
    # finds it done: its own initialisation binds a device and was seen to hang.
    torch.distributed.init_process_group("gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl")
    ranks = Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    store = named_store(settings)
    runner = make_runner(store, settings, ranks, device)
    plan = read_plan(store, assignment.item.step)
    if isinstance(plan, EvaluationPlan):
        summary = runner.score(assignment.item, plan)
    else:
        assert isinstance(plan, HalfStepPlan)
        summary = runner.train(assignment.item, plan)
    # Only when all went well: a rank that failed does not wait for the others.
    torch.distributed.destroy_process_group()
    return summary


def _device(settings: TrainerSettings) -> "device":
    import torch  # noqa: PLC0415

    name = settings.trainer_device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    from services.trainer.errors import DeviceError  # noqa: PLC0415

    local, num = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if num < settings.trainer_num_processes:
        raise DeviceError(
            f"trainer_num_processes is {settings.trainer_num_processes}, but this machine shows {num} GPUs: set it to "
            f"at most {num}, or trainer_device to cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


if __name__ == "__main__":
    sys.exit(main())
