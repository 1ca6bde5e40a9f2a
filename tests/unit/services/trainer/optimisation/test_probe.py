# transformers is only partly typed.
# pyright: reportUnknownMemberType=false
"""The sample that is measured before and after training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from services.trainer.errors import WrongPolicyError
from services.trainer.forward.log_probs import Compute, LogProbs, log_probs_of
from services.trainer.optimisation.half_step import Objective
from services.trainer.optimisation.pairs import Pairs, read_pairs
from services.trainer.optimisation.probe import NUM_PROBES, Probe, evenly_spread
from shared.contracts.plans import HalfStepPlan
from shared.store.artifacts.store import DirectoryStore
from tests.support import tiny_models, tiny_training

NUM_PAIRS = 40
COMPUTE = Compute(torch.device("cpu"))


@pytest.mark.parametrize("num", [1, 2, 31, 32])
def test_few_pairs_are_all_measured(num: int) -> None:
    assert evenly_spread(num).tolist() == list(range(num))


@pytest.mark.parametrize("num", [33, 96, 1000, 20_000])
def test_of_many_pairs_32_are_measured_from_the_first_to_the_last(num: int) -> None:
    """31 gaps that add up to num - 1; rounding down moves either end of a gap by less than one."""
    sample = evenly_spread(num)
    assert (len(sample), sample[0], sample[-1]) == (NUM_PROBES, 0, num - 1)
    assert np.all(np.abs(np.diff(sample) - (num - 1) / 31) < 1)
    assert np.all(np.diff(sample) > 0)


class Case:
    """Forty pairs of a tiny model, and the model itself as the policy to train."""

    def __init__(self, directory: Path) -> None:
        store = DirectoryStore(directory / "store")
        model = tiny_models.make_model(directory / "model", seed=0)
        version = tiny_models.publish(store, "run", 0, model)
        item = tiny_training.put_half_step(store, version, tiny_training.make_pairs(model, NUM_PAIRS, seed=1))
        self.plan: HalfStepPlan = tiny_training.read_plan(store, item)
        self.pairs: Pairs = read_pairs(store, item.step, self.plan)
        self.policy: nn.Module = AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32).eval()
        self.stored: LogProbs = log_probs_of(self.policy, self.pairs.sequences, COMPUTE, name="start")
        self.version = version

    def probe(self) -> Probe:
        """The probe of this policy."""
        objective = Objective(self.plan, self.pairs, {self.version.digest: self.stored}, COMPUTE.device)
        return Probe(self.plan, self.pairs, self.policy, objective, COMPUTE)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_no_more_than_the_sample_goes_through_the_policy(case: Case) -> None:
    forwarded: list[int] = []

    def count(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        forwarded.append(len(kwargs["input_ids"]))

    case.policy.register_forward_pre_hook(count, with_kwargs=True)
    probe = case.probe()
    probe.before(case.stored, case.stored)
    assert sum(forwarded) == 2 * NUM_PROBES
    probe.after(case.stored)
    assert sum(forwarded) == 4 * NUM_PROBES


def test_the_sample_is_enough_to_refuse_a_policy_with_one_tensor_changed(case: Case) -> None:
    """Every tensor of the model takes part in every response, but for rows of the embedding."""
    for name, parameter in case.policy.named_parameters():
        whole = parameter.detach().clone()
        with torch.no_grad():
            parameter.mul_(1.1)
        with pytest.raises(WrongPolicyError, match="the policy to train is not"):
            case.probe().before(case.stored, case.stored)
        with torch.no_grad():
            parameter.copy_(whole)
        assert case.probe().before(case.stored, case.stored)["step_zero_max_diff"] < 1e-5, name


def test_what_sampled_the_pairs_is_still_checked_on_all_of_them(case: Case) -> None:
    """The pairs that are not in the sample are another version's: the sampler is asked about those, too."""
    outside = np.setdiff1d(np.arange(NUM_PAIRS), evenly_spread(NUM_PAIRS))
    sampled = case.stored.copy()
    sampled[case.pairs.rows(outside)] -= 5.0
    with pytest.raises(WrongPolicyError, match="is not what sampled the pairs"):
        case.probe().before(case.stored, sampled)
