"""`inpo validate`: what can be known without running."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.cli.failures import SpecError
from services.cli.specs.validating import check
from shared.contracts.spec import RunSpec
from tests.support import tiny_models
from tests.support.data import outside_data
from tests.support.specs import a_spec


def _hub_spec(tmp_path: Path, **changes: Any) -> RunSpec:
    """A run whose model is on the hub, so that no tokenizer is looked for."""
    return a_spec(tmp_path, **({"model": {"path": "org/name"}} | changes))


def test_a_run_is_counted_and_what_only_running_can_tell_is_said(tmp_path: Path) -> None:
    """12 prompts, 4 of them held out; a tournament makes one pair of each of the 6 prompts of an iteration."""
    report = check(_hub_spec(tmp_path))
    assert (report.num_train, report.num_held_out, report.pairs_per_iteration) == ({0: 8}, 4, 6)
    assert (report.skipped, report.unrendered) == ([], [])
    assert "org/name is fetched by the trainer" in report.unchecked[0]


@pytest.mark.parametrize(
    ("selection", "pairs"),
    [
        ({"method": "random_pairs"}, 12),
        ({"method": "random_pairs", "num_pairs": 1}, 6),
        ({"method": "all_pairs"}, 36),
        ({"method": "best_worst"}, 6),
    ],
)
def test_pairs_of_an_iteration_follow_the_selection(tmp_path: Path, selection: dict[str, Any], pairs: int) -> None:
    """K = 4 and 6 prompts: K/2 disjoint pairs each, or K(K-1)/2 of all."""
    assert check(_hub_spec(tmp_path, selection=selection)).pairs_per_iteration == pairs


def test_duplicates_and_broken_rows_are_listed(tmp_path: Path) -> None:
    spec = _hub_spec(tmp_path)
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write('{"prompt": "question number 0?"}\n{"prompt": 3}\nnot json\n')
    assert [item.id for item in check(spec).skipped] == ["prompts.jsonl:13", "prompts.jsonl:14", "prompts.jsonl:15"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"path": "/nowhere/at/all"}}, r"model\.path: /nowhere/at/all is neither a directory nor a hub id"),
        (
            {"oracle": {"judge": {"kind": "rules", "entry_point": "no.such:judge"}}},
            r"oracle\.judge\.entry_point: .*No module",
        ),
        (
            {
                "oracle": {
                    "judge": {
                        "kind": "rules",
                        "entry_point": "tests.support.rules:longer_is_better",
                        "params": {"zzz": 1},
                    }
                }
            },
            r"oracle\.judge\.params: .*zzz",
        ),
        ({"prompts": {"sets": [{"path": "/nowhere.jsonl"}]}}, r"prompts\.sets\.0\.path: /nowhere.jsonl is not a file"),
        ({"evaluation": {"num_prompts": 12}}, r"evaluation\.num_prompts"),
    ],
)
def test_a_run_that_could_not_begin_is_refused_naming_the_field(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        check(_hub_spec(tmp_path, **changes))


def test_a_model_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"model\.path: .* holds no tokenizer"):
        check(a_spec(tmp_path))


def test_over_long_prompts_are_listed_with_their_length(tmp_path: Path) -> None:
    """One prompt of some hundred words is far above 32 tokens, the twelve short ones are below."""
    model = outside_data("tiny_model/stories260K-hf")
    spec = a_spec(tmp_path, model={"path": str(model)})
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "once upon a time " * 30}) + "\n")
    tight = spec.model_copy(update={"prompts": spec.prompts.model_copy(update={"max_tokens": 32, "format": "text"})})
    (item,) = check(tight).unrendered
    assert "over-long" in item.reason


def test_template_variables_are_rendered_and_counted_as_the_run_would(tmp_path: Path) -> None:
    """Bytes as tokens: `<s>[user]question number 0?`, a line break and `[assistant]` have 37; 10 more are too many."""
    model = tmp_path / "chat"
    tiny_models.make_model(model, seed=0)
    (model / "chat_template.jinja").write_text(tiny_models.CHAT_TEMPLATE + "{{ style }}")
    spec = a_spec(tmp_path, model={"path": str(model)})
    fits = spec.prompts.model_copy(update={"max_tokens": 40})
    assert check(spec.model_copy(update={"prompts": fits})).unrendered == []
    longer = fits.model_copy(update={"chat_template_kwargs": {"style": "x" * 10}})
    with pytest.raises(SpecError, match="over-long: "):
        check(spec.model_copy(update={"prompts": longer}))


def test_responses_that_fill_the_models_context_are_refused_naming_the_field(tmp_path: Path) -> None:
    model = outside_data("tiny_model/stories260K-hf")
    sampling = {"num_responses": 4, "max_new_tokens": 100_000}
    with pytest.raises(SpecError, match=r"sampling\.max_new_tokens = 100000 leaves no room"):
        check(a_spec(tmp_path, model={"path": str(model)}, sampling=sampling))
