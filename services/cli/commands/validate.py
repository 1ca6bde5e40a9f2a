"""What `inpo validate` prints."""

from rich.console import Console

from services.cli.specs.validating import Report
from shared.contracts.spec import RunSpec
from shared.inpo.algorithms import algorithm_named

_SHOWN = 20


def show(spec: RunSpec, report: Report, console: Console) -> None:
    """The report as text; everything that would be skipped is listed, long lists with their count."""
    sampling, algorithm = spec.sampling, spec.algorithm
    sets = ", ".join(str(num) for num in report.num_train.values())
    responses = (spec.prompts.num_per_iteration or min(report.num_train.values())) * sampling.num_responses
    lines = [
        f"{spec.name} can begin.",
        f"  model       {spec.model.path}",
        f"  prompts     {sets} for training, {report.num_held_out} held out; {_skips(report)}",
        f"  iteration   {responses} responses of at most {sampling.max_new_tokens} tokens, "
        f"at most {report.pairs_per_iteration} pairs ({spec.selection.method}), {spec.iterations} iterations",
        f"  algorithm   {algorithm.name}, {_parameters(spec)}",
        *_gap_lines(spec, report),
        *([] if report.disk is None else [f"  disk        {report.disk}"]),
        f"  judge       {spec.oracle.judge.kind}, {spec.oracle.answers} answers",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    for warning in report.warnings:
        text = f"  warning     {warning.field}: {warning.message}"
        console.print(text, markup=False, soft_wrap=True, style="bold yellow")
    skipped = report.skipped + report.unrendered
    for item in skipped[:_SHOWN]:
        console.print(f"  skipped     {item.id}: {item.reason}", markup=False, soft_wrap=True, style="yellow")
    if len(skipped) > _SHOWN:
        console.print(f"  skipped     and {len(skipped) - _SHOWN} more", style="yellow")
    for item in report.unchecked:
        console.print(f"  unchecked   {item}", markup=False, soft_wrap=True, style="dim")


def _skips(report: Report) -> str:
    """The first number is known when a run is created, the second only when it generates."""
    rows, prompts = len(report.skipped), len(report.unrendered)
    return f"{rows} rows skipped when read, {prompts} prompts when rendered"


def _gap_lines(spec: RunSpec, report: Report) -> list[str]:
    """The oracle cost of the duality gap, which grows with the square of the responses."""
    gap, num = spec.evaluation.duality_gap, spec.evaluation.num_responses
    if gap is None:
        return []
    most = report.num_held_out * num * (num + gap.num_earlier_versions)
    return [f"  gap         at most {most:,} comparisons for each weight version, of different texts only"]


def _parameters(spec: RunSpec) -> str:
    read = algorithm_named(spec.algorithm.name).parameters
    values = spec.algorithm.model_dump(exclude={"name"}, exclude_none=True)
    return ", ".join(f"{name} {value}" for name, value in values.items() if name in read)
