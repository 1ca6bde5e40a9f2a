"""The handler over a real pretrained model: stories that continue their openings."""

from pathlib import Path

import pytest

from services.policy.building import build_parts
from services.policy.settings import PolicySettings
from shared.contracts.records import Rollout
from shared.contracts.spec import SamplingSpec
from shared.contracts.work import Attempt
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore
from shared.store.artifacts.tables import read_skipped, read_table
from tests.support import tiny_models
from tests.support.data import outside_data
from tests.support.sampling_plans import generate_item, put_half_step, put_prompts

OPENINGS = ["Once upon a time, there was a little girl", "Tom and his dog went to the park. They", "word " * 600]
COMMON = {"the", "a", "and", "was", "to", "he", "she", "it", "they", "in", "of", "said", "her", "his", "with", "day"}


@pytest.mark.slow
def test_a_story_model_tells_stories(tmp_path: Path) -> None:
    """Eight responses to each of two openings; the third, longer than the context of 512, is listed.

    Of children's-story English more than a fifth of the words are among sixteen common ones; of random letters, none.
    A mean log-prob a token above -1.6 nats says the same: the model's loss on real stories is 1.27.
    """
    store = DirectoryStore(tmp_path)
    version = tiny_models.publish(store, "run", 0, outside_data("tiny_model/stories260K-hf"))
    put_prompts(store, "run", OPENINGS)
    step = put_half_step(store, version, [[0, 1, 2]], sampling=SamplingSpec(num_responses=8, max_new_tokens=96))
    build_parts(PolicySettings(device="cpu", num_threads=1), store).handler(
        generate_item("run", step), Attempt(number=1)
    )
    rollouts = read_table(store, layout.rollouts(step, 0), Rollout)
    (skipped,) = read_skipped(store, layout.rollouts(step, 0), Rollout)
    assert skipped.id == "p2"
    assert skipped.reason.startswith("over-long")
    words = [word.strip('.,!?"') for rollout in rollouts for text in rollout.responses for word in text.lower().split()]
    assert sum(word in COMMON for word in words) / len(words) > 0.2
    log_probs = [value for rollout in rollouts for row in rollout.log_probs for value in row]
    assert sum(log_probs) / len(log_probs) > -1.6
    for rollout in rollouts:
        assert len(set(rollout.responses)) == 8
        sequences = [rollout.prompt_ids + ids for ids in rollout.response_ids]
        direct = tiny_models.direct_log_probs(outside_data("tiny_model/stories260K-hf"), sequences)
        for row, expected in zip(rollout.log_probs, direct, strict=True):
            assert row == pytest.approx(expected[-len(row) :], abs=1e-4)
