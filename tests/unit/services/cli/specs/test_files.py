"""Run files: overrides, paths, and errors that a person can act on."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.failures import SpecError
from services.cli.specs.files import load_spec, override_field
from tests.support.specs import a_spec_body


def _file(tmp_path: Path, **changes: Any) -> Path:
    """A run file in a folder of its own, its paths relative to that folder."""
    folder = tmp_path / "runs"
    folder.mkdir(exist_ok=True)
    body = a_spec_body(folder, **changes)
    if "model" not in changes:
        body["model"] = {"path": "model"}
    body["prompts"]["sets"] = [{"path": "prompts.jsonl"}]
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def test_relative_paths_of_a_file_mean_the_files_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    spec = load_spec(_file(tmp_path))
    assert spec.model.path == str(tmp_path / "runs" / "model")
    assert spec.prompts.sets[0].path == str(tmp_path / "runs" / "prompts.jsonl")


def test_a_path_that_exists_only_in_the_current_folder_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_spec(_file(tmp_path, model={"path": "elsewhere"})).model.path == str(tmp_path / "elsewhere")


def test_a_path_given_on_the_command_line_means_the_current_folder_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_spec(_file(tmp_path), ["model.path=model"]).model.path == str(tmp_path / "model")


def test_a_hub_id_stays_a_hub_id_and_a_missing_folder_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_spec(_file(tmp_path), ["model.path=org/name"]).model.path == "org/name"
    assert load_spec(_file(tmp_path), ["model.path=./org/name"]).model.path == str(tmp_path / "org" / "name")


def test_prompts_of_an_evaluation_and_the_path_of_a_judge_are_resolved_too(tmp_path: Path) -> None:
    judge = {"judge": {"kind": "reward_model", "path": "model"}}
    spec = load_spec(_file(tmp_path, oracle=judge), ["evaluation.prompts.path=" + str(tmp_path / "held.jsonl")])
    assert spec.oracle.judge.kind == "reward_model"
    assert spec.oracle.judge.path == str(tmp_path / "runs" / "model")
    assert spec.evaluation.prompts is not None
    assert spec.evaluation.prompts.path == str(tmp_path / "held.jsonl")


def test_overrides_reach_nested_fields_and_items_of_lists(tmp_path: Path) -> None:
    spec = load_spec(
        _file(tmp_path),
        ["training.batch_size=32", "training.learning_rate=5e-7", "prompts.sets.0.limit=5", "name=other"],
    )
    assert spec.training.batch_size == 32
    assert spec.training.learning_rate == 5e-7
    assert (spec.prompts.sets[0].limit, spec.name) == (5, "other")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training", "not of the form field.sub=value"),
        ("=3", "not of the form"),
        ("a..b=3", "not of the form"),
        ("seed.x=3", "seed does not exist|above it is the value 7"),
        ("seed.x.y=3", "above it is the value 7"),
        ("sets.1=3", "names no item of a list of 1"),
        ("sets.x.y=3", "names no item of a list of 1"),
        ("seed=[", "is not YAML"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        override_field({"seed": 7, "sets": [1]}, override)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["prompts.num_per_iter=3"], "prompts.num_per_iter is not a field: did you mean num_per_iteration?"),
        (["prompts.sets.0.column=3"], "prompts.sets.0.column = 3: Input should be a valid list"),
        (["prompts.sets.0.column=[3]"], "prompts.sets.0.column.0 = 3: Input should be a valid string"),
        (["oracle.judged_part=("], "oracle.judged_part = '(': not a regular expression: missing )"),
        (["prompts.chat_template_kwargs.tokenize=no"], "prompts.chat_template_kwargs: tokenize: decided by the policy"),
        (["oracle.judge.entry=x"], "oracle.judge.entry is not a field: did you mean entry_point?"),
        (["zzzz=1"], "zzzz is not a field: there are algorithm, evaluation, iterations"),
        (["sampling.temperature=-1"], "sampling.temperature = -1: Input should be greater than 0"),
        (["oracle.answers=maybe"], "oracle.answers = 'maybe': Input should be 'binary' or 'probability'"),
        (["algorithm.tau=0.9"], "algorithm: `tau` (0.9) must not exceed `eta` (0.3)"),
        (["sampling.num_responses=6", "selection.method=tournament"], "to be a power of two, not 6"),
        (["oracle.judge.kind=oracle"], "oracle.judge.kind = 'oracle': one of rules, reward_model, pair_model"),
        (["oracle.judge={}"], "oracle.judge.kind is missing: one of rules, reward_model, pair_model"),
        (["algorithm={name: inpo}"], "algorithm: inpo needs `eta`"),
        (["oracle={}"], "oracle.judge is missing"),
        (["iterations=.nan"], "iterations = nan: Input should be a finite number"),
        (["model={}"], "model.path is missing (A Hugging Face model directory"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_a_remedy(tmp_path: Path, changes: list[str], line: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(_file(tmp_path), changes)
    assert line in str(caught.value)


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(_file(tmp_path), ["seed=-1", "iterations=0", "oracle.answers=x"])
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: a\nname: b\n", r"(?s)'name' is given twice.*line 2"),
        (b"name: [", "is not YAML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"", "holds nothing"),
        (b"- 1\n", "holds list"),
        (b"!!python/object/apply:os.system [ls]", "is not YAML"),
        (b"a: &a [*a]\n", "is not a run"),
        (b"? [a]\n: 1\n", "is not YAML"),
        (b"name: 2020-13-45\n", "is not YAML"),
        (b"1: 2\n", "is not a run"),
        (b"[" * 5000, "is not YAML"),
    ],
)
def test_a_file_that_is_no_run_is_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(SpecError, match=message):
        load_spec(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml does not exist"):
        load_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot read"):
        load_spec(tmp_path)
