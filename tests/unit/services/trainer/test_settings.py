"""Settings of the trainer that make no sense together."""

import os
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from services.trainer.settings import TrainerSettings
from tests.support.data import ROOT


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"trainer_num_processes": 2}, "trainer_num_processes is 2, but trainer_strategy single has one process"),
        ({"trainer_strategy": "fsdp2", "trainer_zero_stage": 3}, "trainer_zero_stage is DeepSpeed's"),
        ({"trainer_zero_stage": 1}, "trainer_zero_stage is DeepSpeed's, but trainer_strategy is single"),
        ({"trainer_offload_optimizer": True}, "need trainer_strategy fsdp2 or deepspeed"),
        ({"trainer_strategy": "fsdp2", "trainer_offload_optimizer": True}, "set both"),
        ({"trainer_strategy": "deepspeed", "trainer_offload_parameters": True}, "needs trainer_zero_stage 3"),
        ({"trainer_strategy": "fsdp2", "trainer_device": "cuda:1"}, "set trainer_device to cuda"),
    ],
)
def test_a_contradiction_is_an_error_that_names_settings_and_remedy(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as failure:
        TrainerSettings(redis_url="redis://:password@somewhere", **settings)
    assert failure.value.error_count() == 1
    assert "password" not in str(failure.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"trainer_strategy": "fsdp2", "trainer_offload_optimizer": True, "trainer_offload_parameters": True},
        {"trainer_strategy": "deepspeed", "trainer_offload_optimizer": True},
        {"trainer_strategy": "deepspeed", "trainer_zero_stage": 3, "trainer_offload_parameters": True},
        {"trainer_strategy": "fsdp2", "trainer_num_processes": 8, "trainer_device": "cuda"},
        {"trainer_gradient_checkpointing": True},
    ],
)
def test_what_goes_together_is_taken(settings: dict[str, Any]) -> None:
    TrainerSettings(**settings)


def test_a_trainer_with_a_contradiction_does_not_start_and_says_why_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.trainer"],
        cwd=ROOT,
        env=os.environ | {"INPO_TRAINER_NUM_PROCESSES": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "the trainer's settings (INPO_…) cannot be used: Value error, trainer_num_processes is 4, but trainer_strategy "
        "single has one process: set trainer_strategy to fsdp2 or deepspeed"
    ]
