"""The judge handler: rollouts become judgments, judgments become pairs, and failures become nothing at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.oracle.judge import Comparison, JudgeUnavailableError, Opinion
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.worker import JudgeChangedError, JudgeHandler
from shared.contracts.records import PreferencePair, Rollout, Verdict
from shared.contracts.spec import SelectionSpec
from shared.contracts.work import Attempt, WorkItem
from shared.runtime.worker.loop import GiveUp, RetryLater
from shared.store.artifacts import layout
from shared.store.artifacts.store import CorruptArtifactError, DirectoryStore, MissingArtifactError
from shared.store.artifacts.tables import create_table, read_skipped, read_table
from tests.support.fake_judge import FakeJudge
from tests.support.judged_steps import a_half_step, a_rollout, a_version, an_oracle, put_evaluation, put_half_step


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def a_handler(store: DirectoryStore, judge: FakeJudge) -> JudgeHandler:
    return JudgeHandler(store, JudgeRegistry(lambda spec: judge), retry_pause_s=1.0)


def first_try(deferrals: int = 0) -> Attempt:
    return Attempt(number=1, deferrals=deferrals)


def pairs_of(store: DirectoryStore, item: WorkItem) -> list[PreferencePair]:
    return read_table(store, layout.pairs(item.step, item.shard), PreferencePair)


def verdicts_of(store: DirectoryStore, item: WorkItem) -> list[Verdict]:
    return read_table(store, layout.judgments(item.step, item.shard), Verdict)


def skipped_of(store: DirectoryStore, item: WorkItem) -> list[tuple[str, str]]:
    found = read_skipped(store, layout.pairs(item.step, item.shard), PreferencePair)
    return [(skipped.id, skipped.reason) for skipped in found]


def test_the_longest_response_beats_the_shortest_where_length_is_what_the_judge_likes(store: DirectoryStore) -> None:
    """A tournament of K = 4 asks 3K/2 - 1 = 5 comparisons a prompt; log-probs are -1/4 a token."""
    item = put_half_step(store)
    result = a_handler(store, FakeJudge())(item, first_try())

    pairs = pairs_of(store, item)
    assert [(pair.prompt_id, pair.chosen, pair.rejected) for pair in pairs] == [
        ("p0", "dddd", "a"),
        ("p1", "eeee", "h"),
    ]
    assert [pair.preference for pair in pairs] == pytest.approx([0.9, 0.9])
    assert [pair.probability for pair in pairs] == pytest.approx([0.9, 0.9])
    assert (pairs[0].chosen_log_prob, pairs[0].rejected_log_prob) == (-1.0, -0.25)
    assert {pair.judge_revision for pair in pairs} == {"r1"}
    assert len(verdicts_of(store, item)) == 10
    assert result["num_pairs"] == 2
    assert result["unjudged_share"] == 0.0


def test_the_questions_of_all_prompts_that_are_open_at_once_are_one_batch(store: DirectoryStore) -> None:
    """Two prompts; a tournament of 4 has rounds of 2, 1 + 1 and 1 games."""
    judge = FakeJudge()
    a_handler(store, judge)(put_half_step(store), first_try())
    assert [len(batch) for batch in judge.batches] == [4, 4, 2]


def test_a_judge_that_fails_for_a_while_invents_no_label_and_is_asked_again(tmp_path: Path) -> None:
    """Two failing batches, two deferrals with doubled pauses, then exactly what an undisturbed judge says."""
    undisturbed, disturbed = DirectoryStore(tmp_path / "one"), DirectoryStore(tmp_path / "two")
    item = put_half_step(undisturbed)
    put_half_step(disturbed)
    a_handler(undisturbed, FakeJudge())(item, first_try())

    handler = a_handler(disturbed, FakeJudge(failures=2))
    pauses: list[float] = []
    for deferrals in range(2):
        with pytest.raises(RetryLater) as caught:
            handler(item, first_try(deferrals))
        pauses.append(caught.value.delay_s)
        assert not disturbed.exists(layout.judgments(item.step, 0))
        assert not disturbed.exists(layout.pairs(item.step, 0))
    handler(item, first_try(2))

    assert pauses == [1.0, 2.0]
    assert verdicts_of(disturbed, item) == verdicts_of(undisturbed, item)
    pairs = layout.pairs(item.step, 0)
    assert disturbed.read(pairs) == undisturbed.read(pairs)


def test_a_retry_asks_only_what_failed(store: DirectoryStore) -> None:
    """`dddd` is in the first round of one prompt: one of four questions fails, and only that one is asked again."""
    judge = FakeJudge(failures=1, failing=frozenset({"dddd"}))
    item, handler = put_half_step(store), a_handler(store, judge)
    with pytest.raises(RetryLater, match="1 comparisons failed, the first: HTTP 503"):
        handler(item, first_try())
    handler(item, first_try(1))
    assert [len(batch) for batch in judge.batches] == [4, 1, 4, 2]


def test_after_the_last_retry_failures_are_stored_as_such_without_answer_or_pair(store: DirectoryStore) -> None:
    item = put_half_step(store)
    result = a_handler(store, FakeJudge(failures=1000))(item, first_try(2))
    verdicts = verdicts_of(store, item)
    assert {verdict.status for verdict in verdicts} == {"error"}
    assert {(verdict.answer, verdict.probability, verdict.error) for verdict in verdicts} == {(None, None, "HTTP 503")}
    assert pairs_of(store, item) == []
    assert {prompt for prompt, _ in skipped_of(store, item)} == {"p0", "p1"}
    assert result["unjudged_share"] == 1.0


def test_an_abstention_is_not_asked_again_and_loses_no_other_prompt(store: DirectoryStore) -> None:
    item = put_half_step(store)
    result = a_handler(store, FakeJudge(unanswerable="dddd"))(item, first_try())
    assert [pair.prompt_id for pair in pairs_of(store, item)] == ["p1"]
    assert [prompt for prompt, _ in skipped_of(store, item)] == ["p0"]
    assert 0.0 < result["unjudged_share"] < 1.0


def test_a_shard_judged_again_is_adopted_without_asking(store: DirectoryStore) -> None:
    item = put_half_step(store)
    a_handler(store, FakeJudge())(item, first_try())
    before = store.read(layout.pairs(item.step, 0))
    judge = FakeJudge(strength=0.6, revision="r2")
    result = a_handler(store, judge)(item, Attempt(number=2))
    assert judge.batches == []
    assert store.read(layout.pairs(item.step, 0)) == before
    assert result["judge_revision"] == "r1"


def test_pairs_derive_from_the_judgments_that_are_stored_whoever_wrote_them(tmp_path: Path) -> None:
    """Somebody else's judgments, from a judge that likes short responses, are there; the pairs are theirs."""
    winner, loser = DirectoryStore(tmp_path / "winner"), DirectoryStore(tmp_path / "loser")
    item = put_half_step(winner)
    put_half_step(loser)
    a_handler(winner, FakeJudge(strength=0.1))(item, first_try())
    key = layout.judgments(item.step, 0)

    class Overtaken(FakeJudge):
        def compare(self, comparisons: Any) -> Any:
            loser.create(key, winner.read(key))
            return super().compare(comparisons)

    a_handler(loser, Overtaken())(item, first_try())
    pairs = layout.pairs(item.step, 0)
    assert loser.read(pairs) == winner.read(pairs)


def test_another_judge_in_the_middle_of_a_run_is_refused(store: DirectoryStore) -> None:
    a_handler(store, FakeJudge())(put_half_step(store), first_try())
    second = put_half_step(store, a_half_step(iteration=2))
    with pytest.raises(JudgeChangedError, match=r"at r1, .* at r2"):
        a_handler(store, FakeJudge(revision="r2"))(second, first_try())
    assert not store.exists(layout.judgments(second.step, 0))


def test_a_pair_of_identical_token_ids_is_left_out_with_its_reason(store: DirectoryStore) -> None:
    """Texts differ (the judge sees that) but decode from the same ids, so the loss would have no gradient."""
    plan = a_half_step(num_responses=2, selection=SelectionSpec(method="all_pairs"))
    rollout = a_rollout("p0", ["long", "x"], plan.sample_from, ids=[[1, 2], [1, 2]])
    item = put_half_step(store, plan, [rollout])
    a_handler(store, FakeJudge())(item, first_try())
    assert pairs_of(store, item) == []
    assert skipped_of(store, item) == [("p0", "identical responses (0 and 1)")]


def test_binary_answers_are_the_same_for_equal_runs_and_differ_between_seeds(tmp_path: Path) -> None:
    """All 28 pairs of K = 8 for two prompts at P = 0.6: two seeds agree on all 56 draws by chance 0.52^56."""

    def answers(run: str, seed: int) -> list[float | None]:
        store = DirectoryStore(tmp_path / f"{run}-{seed}")
        selection = SelectionSpec(method="all_pairs")
        plan = a_half_step(run=run, num_responses=8, oracle=an_oracle(answers="binary"), selection=selection, seed=seed)
        rollouts = [a_rollout(f"p{n}", [f"{k}" * (k + 1) for k in range(8)], plan.sample_from) for n in range(2)]
        item = put_half_step(store, plan, rollouts)
        a_handler(store, FakeJudge(strength=0.6))(item, first_try())
        return [verdict.answer for verdict in verdicts_of(store, item)]

    assert answers("run-1", 1) == answers("run-2", 1)
    assert answers("run-1", 1) != answers("run-1", 2)
    assert set(answers("run-1", 1)) == {0.0, 1.0}


@pytest.mark.parametrize("fault", ["foreign", "too_few", "not_finite", "misaligned", "twice"])
def test_rollouts_that_are_not_the_plans_are_refused_before_anybody_is_asked(store: DirectoryStore, fault: str) -> None:
    good = a_rollout("p0", ["a", "bb", "ccc", "dddd"], a_version(0))
    rollouts: dict[str, list[Rollout]] = {
        "foreign": [good.model_copy(update={"digests": [*good.digests[1:], "another"]})],
        "too_few": [a_rollout("p0", ["a", "bb"], a_version(0))],
        "not_finite": [good.model_copy(update={"log_probs": [[-float("inf")], *good.log_probs[1:]]})],
        "misaligned": [good.model_copy(update={"log_probs": [[], *good.log_probs[1:]]})],
        "twice": [good, good],
    }
    judge = FakeJudge()
    item = put_half_step(store, rollouts=rollouts[fault])
    with pytest.raises((CorruptArtifactError, ValueError), match=r"p0|log_probs"):
        a_handler(store, judge)(item, first_try())
    assert judge.batches == []


def test_judgments_of_other_questions_are_not_taken_for_this_selections(store: DirectoryStore) -> None:
    item = put_half_step(store)
    create_table(store, layout.judgments(item.step, 0), Verdict, [])
    with pytest.raises(CorruptArtifactError, match="no verdict for the question"):
        a_handler(store, FakeJudge())(item, first_try())


def test_an_evaluation_compares_each_response_with_the_references_of_the_same_index(store: DirectoryStore) -> None:
    put_evaluation(store, 0, [["aa", "aa"], ["bb", "bb"]])
    item = put_evaluation(store, 1, [["xxx", "x"], ["yy", "yyyy"]])
    judge = FakeJudge()
    result = a_handler(store, judge)(item, first_try())
    verdicts = verdicts_of(store, item)
    assert [(verdict.prompt_id, verdict.a, verdict.b) for verdict in verdicts] == [
        ("p0", 0, 0),
        ("p0", 1, 1),
        ("p1", 0, 0),
        ("p1", 1, 1),
    ]
    assert [verdict.probability for verdict in verdicts] == pytest.approx([0.9, 0.1, 0.5, 0.9])
    assert [verdict.status for verdict in verdicts] == ["ok", "ok", "tie", "ok"]
    assert len(judge.batches) == 1
    assert result["num_verdicts"] == 4
    assert not store.exists(layout.pairs(item.step, 0))


def test_an_evaluation_lists_the_prompts_that_the_reference_did_not_answer(store: DirectoryStore) -> None:
    put_evaluation(store, 0, [["aa", "aa"]])
    item = put_evaluation(store, 1, [["xxx", "x"], ["yy", "yyyy"]])
    a_handler(store, FakeJudge())(item, first_try())
    skipped = read_skipped(store, layout.judgments(item.step, 0), Verdict)
    assert [entry.id for entry in skipped] == ["p1"]


def test_a_step_without_plan_rollouts_or_opponent_is_an_error_that_names_it(store: DirectoryStore) -> None:
    handler = a_handler(store, FakeJudge())
    with pytest.raises(MissingArtifactError, match=r"plan\.json"):
        handler(WorkItem(kind="judge", run="run-1", step="runs/run-1/iterations/0009/half-1"), first_try())
    item = put_half_step(store)
    with pytest.raises(MissingArtifactError, match="00005"):
        handler(item.model_copy(update={"shard": 5}), first_try())
    with pytest.raises(ValueError, match="nothing to judge"):
        handler(put_evaluation(store, 0, [["aa", "aa"]]), first_try())


class AwayJudge(FakeJudge):
    """Answers `answers` batches, then cannot be reached."""

    def __init__(self, answers: int = 0, silent_s: float | None = None) -> None:
        super().__init__()
        self._answers = answers
        self._silent_s = silent_s

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        if len(self.batches) >= self._answers:
            raise JudgeUnavailableError("cannot connect", retry_after_s=7.0, silent_s=self._silent_s)
        return super().compare(comparisons)


def waited(waits: int, *, waited_s: float = 0.0, progress: int = 0) -> Attempt:
    return Attempt(number=1, waits=waits, waited_s=waited_s, progress=progress, deferrals=99)


def test_an_unavailable_judge_is_waited_for_however_often_and_nothing_is_stored(store: DirectoryStore) -> None:
    """Even where all retries (2) are spent. Pauses: at least what the judge wants (7), doubling, at most 60 s."""
    item, handler = put_half_step(store), a_handler(store, AwayJudge())
    pauses: list[float] = []
    for waits in (0, 1, 3, 5, 50):
        with pytest.raises(RetryLater, match="waiting for the judge: cannot connect") as caught:
            handler(item, waited(waits))
        assert not caught.value.counted
        pauses.append(caught.value.delay_s)
    assert pauses == [7.0, 7.0, 8.0, 32.0, 60.0]
    assert not store.exists(layout.judgments(item.step, 0))


def test_answers_are_progress_after_which_the_waiting_begins_anew(store: DirectoryStore) -> None:
    """One batch of four is answered; at progress 4 the outage goes on, at less it is a new one."""
    item = put_half_step(store)
    for before, pause_s in ((0, 7.0), (4, 32.0)):
        with pytest.raises(RetryLater) as caught:
            a_handler(store, AwayJudge(answers=1))(item, waited(5, waited_s=1e6 * (before == 0), progress=before))
        assert (caught.value.progress, caught.value.delay_s) == (4, pause_s)


def test_an_outage_that_lasts_too_long_is_given_up_with_its_reason(store: DirectoryStore) -> None:
    """A day is allowed, by default."""
    item = put_half_step(store)
    with pytest.raises(RetryLater):
        a_handler(store, AwayJudge())(item, waited(50, waited_s=86_399.0))
    with pytest.raises(GiveUp, match=r"unavailable for 86400 s, oracle\.max_outage_s allows 86400 s: cannot connect"):
        a_handler(store, AwayJudge())(item, waited(50, waited_s=86_400.0))


def test_a_judge_that_shows_life_elsewhere_is_waited_for_longer(store: DirectoryStore) -> None:
    """One shard has waited for two days, and the judge was last seen a minute ago, with another one."""
    item = put_half_step(store)
    with pytest.raises(RetryLater):
        a_handler(store, AwayJudge(silent_s=60.0))(item, waited(50, waited_s=172_800.0))
    with pytest.raises(GiveUp):
        a_handler(store, AwayJudge(silent_s=90_000.0))(item, waited(50, waited_s=172_800.0))
