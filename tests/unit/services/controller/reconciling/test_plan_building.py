"""Plans follow from the spec, the prompts and the committed weights alone."""

from collections.abc import Iterable
from pathlib import Path

from services.controller.prompts.loading import load_prompts
from services.controller.reconciling.plan_building import half_step_plan, iteration_rows, num_half_steps
from shared.contracts.plans import GeometricMixtureWeights
from shared.contracts.weights import WeightVersion, label
from shared.inpo.plan import Iterate
from shared.store.artifacts import layout
from tests.support.specs import a_spec


def _weights(iterate: Iterate) -> WeightVersion:
    name = label(iterate.iteration, iterate.half)
    return WeightVersion(
        run="r", number=iterate.iteration, half=iterate.half, digest=f"d{name}", directory=f"runs/r/weights/{name}-1"
    )


def test_a_shared_set_is_walked_whole_before_any_prompt_comes_again(tmp_path: Path) -> None:
    """8 training prompts, 6 an iteration: 1 takes six, 2 the other two and four of the next lap."""
    spec = a_spec(tmp_path)
    prompts, _ = load_prompts(spec)
    walk = [row for iteration in range(1, 5) for row in iteration_rows(spec, prompts, iteration)]
    assert len(walk) == 24
    for lap in range(3):
        assert sorted(walk[lap * 8 : lap * 8 + 8]) == list(range(8))
    assert walk[:8] != walk[8:16]
    for start in range(0, 24, 6):
        assert len(set(walk[start : start + 6])) == 6, "an iteration has a prompt twice"


def test_an_iteration_with_a_set_of_its_own_takes_its_prompts_from_it(tmp_path: Path) -> None:
    sets: list[dict[str, str]] = []
    for index in range(3):
        file = tmp_path / f"set{index}.jsonl"
        file.write_text("".join(f'{{"prompt": "set {index} row {row}"}}\n' for row in range(4)))
        sets.append({"path": str(file)})
    spec = a_spec(tmp_path, prompts={"sets": sets}, evaluation={"num_prompts": 1})
    prompts, _ = load_prompts(spec)
    for iteration in (1, 2, 3):
        rows = iteration_rows(spec, prompts, iteration)
        assert {prompts[row].set for row in rows} == {iteration - 1}
        assert len(rows) == len(set(rows)) == (3 if iteration == 1 else 4)


def test_inpo_is_anchored_to_the_reference_and_to_the_current_policy(tmp_path: Path) -> None:
    """Tau / eta = 1/3: a third of the reference and two thirds of pi_t; at t = 1 they are one and the same."""
    spec = a_spec(tmp_path)
    prompts, _ = load_prompts(spec)
    first = half_step_plan("r", spec, prompts, _weights, 1, 1)
    third = half_step_plan("r", spec, prompts, _weights, 3, 1)
    assert [(anchor.version.number, round(anchor.exponent, 9)) for anchor in first.anchors] == [(0, 1.0)]
    assert [(anchor.version.number, round(anchor.exponent, 9)) for anchor in third.anchors] == [
        (0, 0.333333333),
        (2, 0.666666667),
    ]
    assert (third.sample_from.number, third.start_from.number, third.scale) == (2, 2, 0.3)
    assert [len(shard.prompts) for shard in third.shards] == [2, 2, 2]


def _names(versions: Iterable[WeightVersion]) -> list[str]:
    return [label(version.number, version.half) for version in versions]


def test_a_second_half_step_samples_from_what_the_first_one_made(tmp_path: Path) -> None:
    """EGPO, iteration 2: pairs of pi_1, then of what half-step 1 of iteration 2 made; both from and near pi_1."""
    spec = a_spec(tmp_path, algorithm={"name": "egpo", "eta": 0.6, "tau": 0.1})
    prompts, _ = load_prompts(spec)
    assert num_half_steps(spec, 2) == 2
    first, second = (half_step_plan("r", spec, prompts, _weights, 2, half) for half in (1, 2))
    assert _names([first.sample_from, second.sample_from]) == ["1", "2.half-1"]
    assert _names([first.start_from, second.start_from]) == ["1", "1"]
    assert first.anchors == second.anchors
    assert (first.makes_half, second.makes_half) == (1, None)
    assert first.shards == second.shards


def test_a_second_pass_trains_on_the_first_ones_pairs(tmp_path: Path) -> None:
    """ONPO, iteration 2: both passes on pairs of pi_1; pass 1 goes on from the last iteration's first pass."""
    spec = a_spec(tmp_path, algorithm={"name": "onpo", "eta": 0.6, "tau": 0.1})
    prompts, _ = load_prompts(spec)
    first, second = (half_step_plan("r", spec, prompts, _weights, 2, half) for half in (1, 2))
    assert _names([first.sample_from, second.sample_from]) == ["1", "1"]
    assert _names([first.start_from, second.start_from]) == ["1.half-1", "2.half-1"]
    assert layout.pairs_step(first) == layout.pairs_step(second) == layout.half_step("r", 2, 1)


def test_mixtures_name_every_version_that_responses_come_from(tmp_path: Path) -> None:
    """MNPO against its three newest iterates; IPO-MD against ref^(1/8) pi_t^(7/8), whose log-probs are pi_t's."""
    mixed = a_spec(tmp_path, algorithm={"name": "mnpo", "eta": 0.6, "weights": [1, 1, 1], "opponents": "mixture"})
    prompts, _ = load_prompts(mixed)
    plan = half_step_plan("r", mixed, prompts, _weights, 3, 1)
    assert _names(plan.samplers) == ["2", "1", "0"]
    between = a_spec(tmp_path, algorithm={"name": "ipo_md", "tau": 0.1})
    plan = half_step_plan("r", between, prompts, _weights, 3, 1)
    assert plan.mixture == GeometricMixtureWeights(reference_exponent=0.125)
    assert _names(plan.samplers) == ["2"]
