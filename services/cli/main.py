"""The `inpo` command. Imports are inside the commands, so that help is there at once and needs no service's extras."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from services.cli.commands import doctor, game, judge, queue, runs, weights
from services.cli.commands.options import STATE_DIR, KeyFile, RedisUrl, StateDir, Url, connect
from services.cli.failures import UserError, reported

HELP = """
Align language models with general preferences by Iterative Nash Policy Optimization.

\b
Start here:
  inpo demo                  a tiny model learns a cyclic preference, on this machine
  inpo game                  the algorithms side by side on games whose answer is known

\b
Align a model of your own (DIR is a Hugging Face model directory):
  inpo up                    Redis and the four services, in a terminal of their own
  inpo validate examples/stories.yaml --set model.path=DIR
  inpo run examples/stories.yaml --set model.path=DIR --watch
  inpo runs                  all runs; `inpo runs RUN` shows one with its measurements
  inpo weights               what came out: ordinary Hugging Face directories
  inpo weights promote RUN NUMBER    serve a version to others: /v1/completions of the policy service

\b
When something goes wrong:
  inpo doctor                what this machine has, and how to get what it lacks
  inpo queue show            what waits, what is in flight
  inpo queue dead            work that was given up, and why
  inpo queue retry RUN       try it again once the cause is mended
"""

RUN_EXAMPLES = """
\b
Values are YAML, items of lists count from 0:
  inpo run examples/stories.yaml --set model.path=models/stories --watch
  inpo run run.yaml --set iterations=5 --set prompts.sets.0.limit=100
"""

app = typer.Typer(
    name="inpo",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SpecFile = Annotated[Path, typer.Argument(metavar="FILE", help="A run as YAML; examples/ holds some.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Replace a field of FILE, e.g. `training.batch_size=32`."),
]
EngineName = Annotated[
    Literal["transformers", "vllm"],
    typer.Option(
        "--engine", help="What generates: transformers, in the policy service, or a vLLM server (see `make vllm`)."
    ),
]
Watch = Annotated[bool, typer.Option("--watch", help="Follow the run until it ends.")]


@app.command()
def up(
    state_dir: StateDir = STATE_DIR,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the controller.")] = 8000,
    redis_url: RedisUrl = None,
    engine: EngineName = "transformers",
    model: Annotated[
        Path | None,
        typer.Option(help="With `--engine vllm`: a model directory of the architecture that runs have."),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="With `--engine vllm`: what it computes in.")
    ] = "float32",
) -> None:
    """Start Redis and the four services on this machine and keep them running.

    Redis is --redis-url, else a redis-server on the PATH, else the one that comes with inpo[cpu]. Everything that
    matters is below --state-dir; after Ctrl-C the next `inpo up` goes on where this one stopped.

    Settings of the services are environment variables, e.g. `INPO_DEVICE=cuda inpo up`: see docs/configuration.md.
    """
    from services.cli.commands.up import keep_up, vllm_options  # noqa: PLC0415

    with reported():
        keep_up(state_dir, port, redis_url, vllm_options(engine, model, dtype))


@app.command(epilog=RUN_EXAMPLES)
def run(
    file: SpecFile,
    overrides: Overrides = None,
    watch: Watch = False,
    url: Url = None,
    state_dir: StateDir = STATE_DIR,
    api_key_file: KeyFile = None,
) -> None:
    """Create a run from a YAML file, and follow it with --watch. Ctrl-C stops watching; the run goes on."""
    from services.cli.commands.runs import watch_to_the_end  # noqa: PLC0415
    from services.cli.specs.files import load_spec  # noqa: PLC0415

    with reported():
        spec = load_spec(file, overrides or [])
        api = connect(url, state_dir, api_key_file)
        created = api.create_run(spec)
        prompts = f"{created.num_prompts} prompts, {created.num_skipped} rows skipped when read"
        typer.echo(f"{created.id} is {created.state}: {prompts}")
        typer.echo(
            f"prompts that are too long are skipped later, when rendered; to list them now: inpo validate {file}"
        )
        for warning in created.warnings:
            typer.secho(f"warning: {warning.field}: {warning.message}", fg="yellow", err=True)
        if watch:
            watch_to_the_end(api, created.id)
        else:
            typer.echo(f"follow it: inpo runs {created.id} --watch")


@app.command()
def validate(file: SpecFile, overrides: Overrides = None) -> None:
    """Check a run file without running it: fields, prompt files, duplicates and over-long prompts, model, judge.

    Ends with exit code 1 when the run could not begin. A judge that is a Python entry point is imported and built.
    """
    from services.cli.commands.validate import show  # noqa: PLC0415
    from services.cli.specs.files import load_spec  # noqa: PLC0415
    from services.cli.specs.validating import check  # noqa: PLC0415
    from services.cli.views.screen import screen  # noqa: PLC0415

    with reported():
        spec = load_spec(file, overrides or [])
        show(spec, check(spec), screen())


@app.command()
def demo(
    seed: Annotated[int, typer.Option(min=0, help="Of sampling and of the readers' answers.")] = 0,
    iterations: Annotated[int, typer.Option(min=1, max=1000, help="Iterations of each method.")] = 10,
    out_dir: Annotated[Path, typer.Option(help="Where the report and the plot go.")] = Path(),
    state_dir: Annotated[Path, typer.Option(help="Folder of the demo's model and of its system.")] = STATE_DIR / "demo",
    engine: EngineName = "transformers",
) -> None:
    """A tiny model learns a preference that no reward can express; the distance to the exact Nash policy is measured.

    Everything runs on this machine's CPU, without downloads, in a few minutes: INPO first, then iterative DPO on the
    same budget. Writes demo-report.json and demo-report.png.
    """
    from services.cli.demo.run import run_demo  # noqa: PLC0415

    with reported():
        run_demo(state_dir=state_dir, out_dir=out_dir, seed=seed, iterations=iterations, engine=engine)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415
    from importlib.metadata import version as installed_version  # noqa: PLC0415

    with reported():
        try:
            typer.echo(f"inpo {installed_version('inpo')}")
        except PackageNotFoundError:
            raise UserError("inpo is not installed as a distribution: run `make setup`") from None


game.add_to(app)
runs.add_to(app)
app.add_typer(weights.app, name="weights")
judge.add_to(app)
app.add_typer(queue.app, name="queue")
doctor.add_to(app)

if __name__ == "__main__":
    app()
