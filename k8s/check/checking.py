"""Everything that is wrong with rendered manifests: schemas first, then the rules."""

from collections.abc import Mapping, Sequence

from k8s.check.manifests import Finding, Manifest, Manifests
from k8s.check.rules import broken
from k8s.check.schemas import mismatches


def in_each(sets: Mapping[str, Sequence[Manifest]]) -> dict[str, list[Finding]]:
    """What is wrong with each of several sets of objects. The rules are asked only where the schemas are followed."""
    found = mismatches(sets)
    return {name: findings or broken(Manifests(sets[name])) for name, findings in found.items()}
