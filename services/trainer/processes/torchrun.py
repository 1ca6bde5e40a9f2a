# torch's launcher is only partly typed.
# pyright: reportUnknownMemberType=false
"""`python -m services.trainer.processes.torchrun FOLDER`: torchrun, for the ranks of one assignment.

It is torchrun as it ships; what is added is that a failure is left as data for the worker instead of as a page of text,
and that everything ends with the worker.
"""

import sys
from pathlib import Path

from services.trainer.processes import lifeline
from services.trainer.processes.assignment import ASSIGNMENT, DEATHS, LIFELINE, Assignment, Death, Deaths, write_json


def main() -> int:
    """Exit status 0 when every rank ended well."""
    folder = Path(sys.argv[1])
    lifeline.follow(folder / LIFELINE)
    from torch.distributed import run  # noqa: PLC0415  (starts threads, and takes its time)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415

    assignment = Assignment.model_validate_json((folder / ASSIGNMENT).read_bytes())
    num = assignment.settings.trainer_num_processes
    options = ["--standalone", f"--nproc-per-node={num}", "--max-restarts=0"]
    try:
        run.run(run.parse_args([*options, "--module", "services.trainer.processes.rank_main", str(folder)]))
    except ChildFailedError as error:
        deaths = [Death(rank=rank, exit_code=failure.exitcode) for rank, failure in error.failures.items()]
        write_json(folder / DEATHS, Deaths(deaths=deaths))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
