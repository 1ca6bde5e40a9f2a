"""The duality gap of an evaluation: from comparisons and scores to the figures that a run shows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.controller.measuring.evaluating import conclude
from services.controller.reconciling.plan_building import evaluation_plan
from services.oracle.judge import build_judge
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.rules import styles
from services.oracle.worker import JudgeHandler
from shared.contracts.plans import EvaluationPlan
from shared.contracts.records import CrossComparison, DualityGap, EvaluationResult, Message, Prompt, Rollout
from shared.contracts.records import ReferenceScores as Scores
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import Attempt, WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.artifacts.tables import create_table, read_table
from tests.support.sampled_games import DEMO_TAU, SampledGame, demo_game
from tests.support.specs import a_spec

NUM_RESPONSES = 128
TOPICS = ("sun", "moon", "sea")
PROMPTS = [
    Prompt(prompt_id=topic, messages=[Message(role="user", content=styles.question(topic))], split="held_out")
    for topic in TOPICS
]


def _spec(tmp_path: Path, **evaluation: object) -> RunSpec:
    return a_spec(
        tmp_path,
        algorithm={"name": "inpo", "eta": 0.45, "tau": DEMO_TAU},
        oracle={"judge": {"kind": "rules", "entry_point": "services.oracle.rules.styles:cyclic_panel"}},
        evaluation={"num_prompts": 3, "num_responses": NUM_RESPONSES, "duality_gap": {}} | evaluation,
        sampling={"num_responses": 4, "max_new_tokens": 8},
        shard_size=2,
    )


def _version(number: int) -> WeightVersion:
    return WeightVersion(run="run", number=number, digest=f"d{number}", directory="somewhere")


def _text(topic: str, style: int) -> str:
    return styles.answers(topic, style)[0] if style else "no answer"


def _evaluate(
    store: DirectoryStore, spec: RunSpec, number: int, game: SampledGame, seed: int
) -> tuple[EvaluationPlan, EvaluationResult]:
    """Sample a policy of the demo's game, judge it by the demo's readers through the oracle, and conclude."""
    earlier = [_version(earlier) for earlier in range(1, number)]
    plan = evaluation_plan("run", spec, PROMPTS, _version(number), _version(0), earlier)
    step, rng = layout.evaluation("run", number), np.random.default_rng([seed, number])
    create_model(store, layout.plan(step), plan)
    log_ratios: list[float] = []
    for shard in plan.shards:
        drawn = {row: rng.choice(4, NUM_RESPONSES, p=game.policy) for row in shard.prompts}
        rollouts = [_rollout(PROMPTS[row], [int(style) for style in drawn[row]], number) for row in shard.prompts]
        create_table(store, layout.rollouts(step, shard.index), Rollout, rollouts)
        log_ratios += [float(np.log(game.policy[s] / game.reference[s])) for row in shard.prompts for s in drawn[row]]
    handler = JudgeHandler(store, JudgeRegistry(build_judge))
    for shard in plan.shards:
        handler(WorkItem(kind="judge", run="run", step=step, shard=shard.index), Attempt(number=1))
    create_model(store, layout.scores(step), Scores(log_ratios=log_ratios))
    return plan, conclude(store, spec.evaluation, plan)


def _rollout(prompt: Prompt, drawn: Sequence[int], number: int) -> Rollout:
    return Rollout(
        prompt_id=prompt.prompt_id,
        prompt=prompt.messages,
        prompt_ids=[1],
        responses=[_text(prompt.prompt_id, style) for style in drawn],
        response_ids=[[style] for style in drawn],
        log_probs=[[-1.0] for _ in drawn],
        finish_reasons=["stop"] * len(drawn),
        versions=[number] * len(drawn),
        digests=[f"d{number}"] * len(drawn),
    )


def _gap(result: EvaluationResult) -> DualityGap:
    assert result.duality_gap is not None
    return result.duality_gap


def test_the_gap_that_a_run_shows_covers_the_exact_gap_of_its_policy(tmp_path: Path) -> None:
    """The reference and INPO's first two exact iterates, sampled and judged: the demo's gaps .105, .05 and less."""
    store, spec = DirectoryStore(tmp_path / "store"), _spec(tmp_path)
    for number in range(3):
        game = demo_game(number)
        _, result = _evaluate(store, spec, number, game, seed=3)
        found = _gap(result)
        assert found.estimate is not None
        assert found.estimate.low <= game.duality_gap <= found.estimate.high
        assert found.lower_bound is not None
        assert found.lower_bound.low <= game.duality_gap
        assert found.refusal is None
        assert found.effective_samples is not None
        assert found.effective_samples > 20
        assert found.tau == DEMO_TAU


def test_the_oracle_cost_is_what_the_judge_was_asked_for_this(tmp_path: Path) -> None:
    """Four texts a prompt on either side: 4 x 4 pairs, less the 4 of a text with itself, for each of 3 prompts.

    The second version also meets the first, response by response; these are at most as many pairs of texts.
    """
    store, spec = DirectoryStore(tmp_path / "store"), _spec(tmp_path)
    for number in range(3):
        plan, result = _evaluate(store, spec, number, demo_game(number), seed=4)
        keys = [layout.comparisons(layout.evaluation("run", number), shard.index) for shard in plan.shards]
        rows = [row for key in keys for row in read_table(store, key, CrossComparison)]
        assert _gap(result).num_comparisons == len(rows)
        assert sum(row.opponent == 0 for row in rows) <= 3 * 12
        assert {row.opponent for row in rows} == ({0, 1} if number == 2 else {0})
        assert _gap(result).num_unjudged == 0


def test_at_a_tau_too_small_for_the_samples_there_is_the_lower_bound_only(tmp_path: Path) -> None:
    """At tau = .002 only the reference's third style counts against a policy of the first: 13 of 128 responses.

    Best-of-n finds it: P(third beats the policy) = .9 x .8 + .05 x .1 + .03 / 2 + .02 x .95 = .76.
    """
    store, spec = DirectoryStore(tmp_path / "store"), _spec(tmp_path, duality_gap={"tau": 0.002})
    _evaluate(store, spec, 0, demo_game(0), seed=3)
    plain = replace(demo_game(0), policy=np.array([0.02, 0.9, 0.05, 0.03]))
    found = _gap(_evaluate(store, spec, 1, plain, seed=3)[1])
    assert found.estimate is None
    assert found.refusal is not None
    assert "effective samples, 20 are needed" in found.refusal
    assert found.lower_bound is not None
    assert found.best_win_rate is not None
    assert 0.65 < found.best_win_rate.mean < 0.85
    assert found.found_by is not None
    assert found.found_by.startswith("best of")


def test_a_run_whose_algorithm_has_no_tau_gets_the_bound_of_the_unregularised_game(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    spec = _spec(tmp_path).model_copy(update={"algorithm": _spec(tmp_path).algorithm.model_copy(update={"tau": 0.0})})
    found = _gap(_evaluate(store, spec, 0, demo_game(0), seed=3)[1])
    assert found.tau == 0.0
    assert found.refusal is not None
    assert "at tau = 0" in found.refusal
    assert found.lower_bound is not None


def test_tempered_samples_give_a_win_rate_but_no_gap(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    spec = _spec(tmp_path)
    spec = spec.model_copy(update={"sampling": spec.sampling.model_copy(update={"temperature": 0.7})})
    found = _gap(_evaluate(store, spec, 0, demo_game(0), seed=3)[1])
    assert (found.estimate, found.lower_bound) == (None, None)
    assert found.refusal is not None
    assert "another temperature" in found.refusal
    assert found.best_win_rate is not None


@pytest.mark.parametrize(("wanted", "expected"), [({}, [3]), ({"num_earlier_versions": 5}, [1, 2, 3])])
def test_the_newest_earlier_versions_are_met(tmp_path: Path, wanted: dict[str, object], expected: list[int]) -> None:
    spec = _spec(tmp_path, duality_gap=wanted)
    plan = evaluation_plan("run", spec, PROMPTS, _version(4), _version(0), [_version(number) for number in (1, 2, 3)])
    assert plan.duality_gap is not None
    assert [version.number for version in plan.duality_gap.earlier] == expected


def test_unless_it_is_asked_for_no_gap_is_planned(tmp_path: Path) -> None:
    spec = _spec(tmp_path, duality_gap=None)
    assert evaluation_plan("run", spec, PROMPTS, _version(1), _version(0)).duality_gap is None
