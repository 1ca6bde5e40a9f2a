"""What is refused at creation because the engine that runs could never serve it."""

import json
from pathlib import Path

import pytest

from services.controller.prompts.errors import InvalidSpecError
from services.controller.runs.checks import check_models
from shared.contracts.spec import RunSpec
from tests.support import tiny_models


def spec_of(model: str) -> RunSpec:
    return RunSpec.model_validate(
        {
            "model": {"path": model},
            "prompts": {"sets": [{"path": "prompts.jsonl"}]},
            "oracle": {"judge": {"kind": "rules", "entry_point": "services.oracle.rules.styles:cyclic_panel"}},
            "algorithm": {"name": "inpo", "eta": 0.5, "tau": 0.1},
            "iterations": 1,
        }
    )


def test_a_model_of_the_served_architecture_is_taken_whatever_its_weights_and_precision(tmp_path: Path) -> None:
    served = tiny_models.make_model(tmp_path / "served", seed=1)
    other = tiny_models.make_model(tmp_path / "other", seed=2)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16", "use_cache": False}))
    check_models(spec_of(str(other)), served)


@pytest.mark.parametrize(
    ("change", "field"), [({"tied": False}, "tie_word_embeddings"), ({"hidden_size": 64}, "head_dim")]
)
def test_another_architecture_is_refused_with_both_directories_and_the_remedy(
    tmp_path: Path, change: dict[str, int], field: str
) -> None:
    served = tiny_models.make_model(tmp_path / "served", seed=1)
    other = tiny_models.make_model(tmp_path / "other", seed=1, **change)  # pyright: ignore[reportArgumentType]
    check_models(spec_of(str(other)))
    with pytest.raises(InvalidSpecError) as caught:
        check_models(spec_of(str(other)), served)
    assert caught.value.field == "model.path"
    for part in (field, str(served), str(other), "--engine vllm --model", "transformers"):
        assert part in str(caught.value)


def test_a_served_model_that_is_gone_is_named_by_its_setting(tmp_path: Path) -> None:
    model = tiny_models.make_model(tmp_path / "model", seed=1)
    with pytest.raises(InvalidSpecError, match="INPO_SERVED_MODEL"):
        check_models(spec_of(str(model)), tmp_path / "absent")
