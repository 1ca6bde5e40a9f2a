"""What a cluster says to the presets, asked without changing anything in it."""

import json
from collections.abc import Iterator

from k8s.check import chart
from k8s.check.chart import ChartError, Values
from k8s.check.manifests import Manifest


def refusals(presets: dict[str, Values]) -> Iterator[str]:
    """What the cluster of KUBECONFIG refuses of each preset, by a server-side dry run in the namespace `default`.

    Kinds whose operator it does not have are left out.
    """
    served = set(chart.run("kubectl", "api-resources", "--no-headers", "--output", "name").split())
    for name, values in presets.items():
        objects = chart.render(name, values, namespace="default").objects
        try:
            _dry_run([o for o in objects if _known(o, served)])
        except ChartError as error:
            yield f"{name}: {error}"


def _dry_run(objects: list[Manifest]) -> None:
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    chart.run("kubectl", "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=everything)


def _known(o: Manifest, served: set[str]) -> bool:
    """Of what is not Kubernetes' own, whether the cluster has it."""
    group = o["apiVersion"].rpartition("/")[0]
    ours = "." not in group or (group.endswith(".k8s.io") and not group.startswith("leaderworkerset."))
    return ours or f"{o['kind'].lower()}s.{group}" in served
