# transformers is only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The demo's model is built from nothing, with the shares that make the demo's game."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from services.cli.demo.model import STYLE_SHARES, DemoModel, demo_model
from services.cli.demo.report import Measure, exact_game
from services.oracle.rules import styles
from services.policy.drawing.hf_tokenizer import HfTokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DemoModel:
    return demo_model(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def masses(built: DemoModel) -> np.ndarray:
    """Probability of each topic's styles under the model, exactly: [16 topics, 3 styles]."""
    tokenizer = HfTokenizer(built.directory)
    model: Any = AutoModelForCausalLM.from_pretrained(str(built.directory), dtype=torch.float32)
    return np.array(
        [
            [
                sum(_probability(model, tokenizer, topic, text) for text in styles.answers(topic, style))
                for style in (1, 2, 3)
            ]
            for topic in styles.TOPICS
        ]
    )


def _probability(model: Any, tokenizer: HfTokenizer, topic: str, answer: str) -> float:
    prompt = tokenizer.encode_chat([{"role": "user", "content": styles.question(topic)}], {})
    response = [*tokenizer.encode_text(answer), int(model.config.eos_token_id)]
    with torch.inference_mode():
        log_probs = torch.log_softmax(model(torch.tensor([prompt + response])).logits[0, :-1], dim=-1)
    picked = log_probs[torch.arange(len(prompt) - 1, len(prompt) + len(response) - 1), torch.tensor(response)]
    return float(picked.sum().exp())


def test_the_styles_have_their_shares_and_hardly_anything_is_invalid(masses: np.ndarray) -> None:
    """Within a point or two of the recipe, on average and for each topic."""
    wanted = [STYLE_SHARES[style] for style in (1, 2, 3)]
    assert masses.mean(axis=0) == pytest.approx(wanted, abs=0.01)
    assert np.abs(masses - wanted).max() < 0.03
    assert (1.0 - masses.sum(axis=1)).max() < 0.01


def test_the_reference_policy_is_at_least_a_tenth_from_nash(masses: np.ndarray) -> None:
    shares = masses.mean(axis=0)
    counts = 2048 * np.array([1.0 - shares.sum(), *shares])
    assert Measure(exact_game(counts, 0.15)).row(0, counts).duality_gap >= 0.10


def test_it_is_an_ordinary_small_model_with_a_chat_template_and_its_prompts(built: DemoModel) -> None:
    tokenizer = HfTokenizer(built.directory)
    assert tokenizer.has_chat_template
    model: Any = AutoModelForCausalLM.from_pretrained(str(built.directory))
    assert model.num_parameters() <= 1_000_000
    prompts = [json.loads(line)["prompt"] for line in built.prompts.read_text().splitlines()]
    assert prompts == [styles.question(topic) for topic in styles.TOPICS]
    for topic in styles.TOPICS:
        for text in (styles.question(topic), *styles.answers(topic, 2)):
            assert tokenizer.decode(tokenizer.encode_text(text)) == text


def test_a_finished_model_is_not_built_again(built: DemoModel) -> None:
    stamps = {path.name: path.stat().st_mtime_ns for path in built.directory.iterdir()}
    assert demo_model(built.directory.parent) == built
    assert {path.name: path.stat().st_mtime_ns for path in built.directory.iterdir()} == stamps
    assert sorted(path.name for path in built.directory.parent.iterdir()) == [built.directory.name]


def test_building_twice_gives_the_same_weights(built: DemoModel, tmp_path: Path) -> None:
    again = demo_model(tmp_path)
    for name in ("model.safetensors", "tokenizer.json", "prompts.jsonl"):
        assert (again.directory / name).read_bytes() == (built.directory / name).read_bytes()
