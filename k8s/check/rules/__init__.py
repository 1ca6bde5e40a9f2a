"""What an API server refuses, or accepts and then never runs, and no JSON schema says.

A rule is a function from manifests to findings. Most hold for any chart; `security` has what ours promises.
"""

from collections.abc import Callable, Sequence

from k8s.check.manifests import Finding, Findings, Manifests
from k8s.check.rules import containers, identity, scaling, security, traffic, workloads

Rule = Callable[[Manifests], Findings]

RULES: Sequence[Rule] = (
    *identity.RULES,
    *workloads.RULES,
    *containers.RULES,
    *traffic.RULES,
    *scaling.RULES,
    *security.RULES,
)


def broken(manifests: Manifests) -> list[Finding]:
    """What the rules find; each thing once. The manifests are expected to follow their schemas."""
    return list(dict.fromkeys(finding for rule in RULES for finding in rule(manifests)))
