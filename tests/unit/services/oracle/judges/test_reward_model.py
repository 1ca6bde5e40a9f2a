# transformers is only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""The reward model judge against one plain transformers forward for each conversation."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from services.oracle.judge import Comparison, Judge, JudgeBuildError, build_judge
from shared.contracts.judges import RewardModelJudge
from shared.contracts.records import Message
from tests.support.tiny_judges import make_pair_model, make_reward_model

torch.set_num_threads(1)

PROMPT = [Message(role="system", content="Be brief."), Message(role="user", content="Why is the sky blue?")]
RESPONSES = ["Rayleigh.", "Because short wavelengths scatter more than long ones do.", "ocean", "é 日本 🙂"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reward_model(tmp_path_factory.mktemp("judge") / "rm", seed=3)


def judge_of(directory: Path, max_tokens: int = 2048) -> Judge:
    return build_judge(RewardModelJudge(path=str(directory), batch_size=3, max_tokens=max_tokens), device="cpu")


def direct_reward(directory: Path, ids: list[int]) -> float:
    """One unbatched fp32 forward: without padding there is no doubt about which token is pooled."""
    model = AutoModelForSequenceClassification.from_pretrained(str(directory), dtype=torch.float32).eval()
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([ids])).logits[0, 0])


def chat_ids(directory: Path, response: str) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    turns = [*(message.model_dump() for message in PROMPT), {"role": "assistant", "content": response}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def every_pair() -> list[Comparison]:
    return [Comparison(PROMPT, a, b) for a in RESPONSES for b in RESPONSES if a != b]


def test_a_probability_is_the_sigmoid_of_the_difference_of_two_direct_forwards(directory: Path) -> None:
    """P(a beats b) = 1 / (1 + exp(r_b - r_a)), with r from batch size 1."""
    rewards = {response: direct_reward(directory, chat_ids(directory, response)) for response in RESPONSES}
    comparisons = every_pair()

    opinions = judge_of(directory).compare(comparisons)

    for comparison, opinion in zip(comparisons, opinions, strict=True):
        expected = 1 / (1 + math.exp(rewards[comparison.second] - rewards[comparison.first]))
        assert opinion.status == "ok"
        assert opinion.probability == pytest.approx(expected, abs=1e-4)
        assert opinion.probability_swapped is None


def test_exchanging_the_responses_exchanges_the_probability(directory: Path) -> None:
    judge = judge_of(directory)
    forward = judge.compare([Comparison(PROMPT, a, b) for a in RESPONSES for b in RESPONSES])
    backward = judge.compare([Comparison(PROMPT, b, a) for a in RESPONSES for b in RESPONSES])
    for one, other in zip(forward, backward, strict=True):
        assert one.probability is not None
        assert other.probability is not None
        assert one.probability + other.probability == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("pad_token", [True, False])
def test_batches_pool_the_last_token_whether_or_not_the_model_declares_a_pad_token(
    tmp_path: Path, pad_token: bool
) -> None:
    directory = make_reward_model(tmp_path / "rm", seed=5, pad_token=pad_token)
    comparisons = every_pair()
    together = build_judge(RewardModelJudge(path=str(directory), batch_size=8), device="cpu").compare(comparisons)
    alone = build_judge(RewardModelJudge(path=str(directory), batch_size=1), device="cpu")
    for comparison, opinion in zip(comparisons, together, strict=True):
        single = alone.compare([comparison])[0].probability
        assert single is not None
        assert opinion.probability == pytest.approx(single, abs=1e-6)


def test_without_a_chat_template_contents_are_joined_by_blank_lines_with_one_bos(tmp_path: Path) -> None:
    directory = make_reward_model(tmp_path / "rm", seed=6, chat_template=False)
    tokenizer = AutoTokenizer.from_pretrained(str(directory))

    def reward(response: str) -> float:
        ids = tokenizer(f"Be brief.\n\nWhy is the sky blue?\n\n{response}")["input_ids"]
        assert ids.count(tokenizer.bos_token_id) == 1
        return direct_reward(directory, ids)

    [opinion] = judge_of(directory).compare([Comparison(PROMPT, RESPONSES[0], RESPONSES[1])])
    expected = 1 / (1 + math.exp(reward(RESPONSES[1]) - reward(RESPONSES[0])))
    assert opinion.probability == pytest.approx(expected, abs=1e-4)


def test_an_over_long_conversation_is_an_abstention_and_leaves_the_others_alone(directory: Path) -> None:
    """The prompt takes some 60 of the 200 tokens; 300 letters are 300 tokens."""
    opinions = judge_of(directory, max_tokens=200).compare(
        [Comparison(PROMPT, "short", "x" * 300), Comparison(PROMPT, "short", "other")]
    )
    assert [opinion.status for opinion in opinions] == ["abstain", "ok"]
    assert opinions[0].probability is None
    assert "max_tokens = 200" in str(opinions[0].error)


def test_a_conversation_of_five_megabytes_is_an_abstention_before_it_is_tokenised(directory: Path) -> None:
    """At 200 tokens of 64 bytes the limit is 12,800; tokenising would hold the interpreter."""
    [opinion] = judge_of(directory, max_tokens=200).compare([Comparison(PROMPT, "short", "x" * 5_000_000)])
    assert (opinion.status, opinion.probability) == ("abstain", None)
    assert "limit 12800 (64 for each of 200 tokens)" in str(opinion.error)


def test_the_revision_changes_with_the_weights_and_the_length_limit_only(directory: Path, tmp_path: Path) -> None:
    same = shutil.copytree(directory, tmp_path / "copy")
    other = make_reward_model(tmp_path / "other", seed=4)
    revision = judge_of(directory).identity().revision
    assert judge_of(same).identity().revision == revision
    assert judge_of(other).identity().revision != revision
    assert judge_of(directory, max_tokens=100).identity().revision != revision


def test_a_missing_directory_two_labels_and_a_model_without_the_head_are_refused_naming_path(tmp_path: Path) -> None:
    """A causal model loaded as a classifier would get a random head, and label at random."""
    wrong = {
        str(tmp_path / "absent"): "cannot load",
        str(make_reward_model(tmp_path / "two", seed=1, num_labels=2)): "2 labels",
        str(make_pair_model(tmp_path / "causal", seed=1)): "score.weight",
    }
    for path, reason in wrong.items():
        with pytest.raises(JudgeBuildError, match=reason) as caught:
            build_judge(RewardModelJudge(path=path), device="cpu")
        assert caught.value.field == "path"
