"""Seeds depend on what is sampled, and on nothing else."""

import subprocess
import sys

from shared.inpo.seeds import seed_of, uniform_of


def test_seeds_are_the_same_in_another_process() -> None:
    """Python's own hash of a string differs from process to process; a seed must not."""
    code = "from shared.inpo.seeds import seed_of; print(seed_of('run', 3, 'prompt'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(other) == seed_of("run", 3, "prompt")


def test_seeds_stay_what_they_are() -> None:
    """Golden values: changing them would change every run that is repeated."""
    assert seed_of("a", 1) == 8088918357718693861
    assert uniform_of("a", 1) == 8088918357718693861 // 2**10 / 2**53


def test_seeds_tell_apart_how_the_parts_are_split_and_typed() -> None:
    seeds = {seed_of("a", "bc"), seed_of("ab", "c"), seed_of("abc"), seed_of("1"), seed_of(1), seed_of("a\x1f'b", "c")}
    assert len(seeds) == 6


def test_seeds_have_63_bits() -> None:
    seeds = [seed_of(number) for number in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_uniforms_are_uniform() -> None:
    """10,000 of them: the share below q has a standard deviation of at most .005."""
    values = [uniform_of("u", number) for number in range(10_000)]
    assert all(0.0 <= value < 1.0 for value in values)
    for quantile in (0.1, 0.5, 0.9):
        assert abs(sum(value < quantile for value in values) / len(values) - quantile) < 0.02
