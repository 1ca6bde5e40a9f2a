"""Where artifacts live: other programs rely on these keys."""

from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from tests.support.work import work_item


def test_keys_of_a_run_are_those_of_the_documentation() -> None:
    step = layout.half_step("r", 3, 1)
    assert {
        "run": layout.run_record("r"),
        "prompts": layout.prompts("r"),
        "intent": layout.intent("r", 4),
        "judge": layout.judge("r"),
        "base": layout.plan(layout.base("r")),
        "plan": layout.plan(step),
        "rollouts": layout.rollouts(step, 17),
        "judgments": layout.judgments(step, 17),
        "pairs": layout.pairs(step, 17),
        "dead": layout.dead(step, "judge", 17),
        "published": layout.published(step),
        "commit": layout.commit("r", 3),
        "scores": layout.scores(layout.evaluation("r", 3)),
        "result": layout.result(layout.evaluation("r", 3)),
        "weights": layout.weights("r"),
        "scratch": layout.scratch("r"),
    } == {
        "run": "runs/r/run.json",
        "prompts": "runs/r/prompts.parquet",
        "intent": "runs/r/intents/0004.json",
        "judge": "runs/r/judge.json",
        "base": "runs/r/base/plan.json",
        "plan": "runs/r/iterations/0003/half-1/plan.json",
        "rollouts": "runs/r/iterations/0003/half-1/rollouts/00017.parquet",
        "judgments": "runs/r/iterations/0003/half-1/judgments/00017.parquet",
        "pairs": "runs/r/iterations/0003/half-1/pairs/00017.parquet",
        "dead": "runs/r/iterations/0003/half-1/dead/judge-00017.json",
        "published": "runs/r/iterations/0003/half-1/weights.json",
        "commit": "runs/r/iterations/0003/commit.json",
        "scores": "runs/r/evaluations/0003/scores.json",
        "result": "runs/r/evaluations/0003/result.json",
        "weights": "runs/r/weights",
        "scratch": "runs/r/scratch",
    }


def test_names_sort_in_the_order_of_their_numbers() -> None:
    store = MemoryStore()
    for number in (10, 9, 100):
        store.create(layout.intent("r", number), b"")
        store.create(layout.commit("r", number), b"")
        store.create(layout.pairs("s", number), b"")
    assert store.list(layout.intents("r"))[-1] == "0100.json"
    assert store.list(layout.iterations("r")) == ["0009", "0010", "0100"]
    assert store.list("s/pairs") == ["00009.parquet", "00010.parquet", "00100.parquet"]


def test_the_id_of_work_names_its_step_kind_and_shard() -> None:
    assert work_item(17, "judge", "r").id == "runs/r/iterations/0001/half-1:judge:00017"
