"""The run files of examples/ are valid, and say what they promise."""

import json
from pathlib import Path

import pytest

from services.cli.specs.files import load_spec
from services.controller.prompts.loading import load_prompts
from services.controller.runs.checks import check_models
from shared.contracts.spec import RunSpec
from tests.support.data import ROOT, outside_data

EXAMPLES = ROOT / "examples"
MODEL = "tiny_model/stories260K-hf"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("**/*.yaml")), ids=lambda file: file.name)
def test_every_example_is_a_valid_run(file: Path) -> None:
    assert isinstance(load_spec(file), RunSpec)


def test_the_paper_recipe_has_the_papers_numbers() -> None:
    """Three disjoint prompt sets, K 8, tournament, rate 5e-7, batch 128, eta .0075, tau eta / 3, warm-up .03."""
    spec = load_spec(EXAMPLES / "paper.yaml")
    assert len({source.hub for source in spec.prompts.sets}) == spec.iterations == 3
    assert (spec.sampling.num_responses, spec.selection.method) == (8, "tournament")
    assert (spec.training.learning_rate, spec.training.batch_size) == (5e-7, 128)
    assert spec.training.warmup_fraction == 0.03
    assert (spec.algorithm.eta, spec.algorithm.tau) == (0.0075, 0.0025)
    assert spec.oracle.judge.kind == "pair_model"


def test_the_stories_prompts_are_many_short_and_all_different() -> None:
    lines = (EXAMPLES / "stories-prompts.jsonl").read_text().splitlines()
    texts = [json.loads(line)["prompt"] for line in lines]
    assert len(set(texts)) == len(texts) == 1000
    assert max(len(text) for text in texts) < 160


def test_the_stories_run_needs_its_model_directory_only() -> None:
    """1,000 openings: 64 held out, 936 left for 3 times 288 without a repeat, none skipped."""
    spec = load_spec(EXAMPLES / "stories.yaml", [f"model.path={outside_data(MODEL)}"])
    check_models(spec)
    prompts, skipped = load_prompts(spec)
    splits = [prompt.split for prompt in prompts]
    assert (splits.count("held_out"), splits.count("train"), skipped) == (64, 936, [])
