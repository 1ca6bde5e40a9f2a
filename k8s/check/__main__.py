"""`python -m k8s.check`: everything that can be checked without a cluster; with KUBECONFIG, what the cluster says, too.

`python -m k8s.check render PRESET` prints a preset's manifests for `kubectl apply -f -`.
"""

import argparse
import os
import sys
import time

from k8s.check.chart import ChartError, beside, lint, preset_values, presets, render
from k8s.check.checking import in_each
from k8s.check.cluster import refusals
from k8s.check.combinations import combinations
from k8s.check.schemas import VERSIONS

SEED = 20_261_128
NUM_COMBINATIONS = 20


def main() -> int:
    """Exit status 1 when anything is found."""
    parser = argparse.ArgumentParser(prog="python -m k8s.check", description=__doc__)
    parser.add_argument("what", nargs="*", default=["check"], help="check (the default), or: render PRESET")
    parser.add_argument("--seed", type=int, default=SEED, help="of the combinations of values")
    parser.add_argument("--combinations", type=int, default=NUM_COMBINATIONS, help="how many")
    chosen = parser.parse_args()
    try:
        match chosen.what:
            case ["check"]:
                return check(chosen.combinations, chosen.seed)
            case ["render", preset]:
                print(plain(preset))
                return 0
            case _:
                parser.error("there are: check, and render PRESET")
    except ChartError as error:
        sys.exit(str(error))


def plain(preset: str) -> str:
    """A preset's manifests for those without Helm. The keys are a secret of yours: a rendering would invent one."""
    values = preset_values(preset)
    return render(preset, {**values, "keys": {"existingSecret": "inpo-keys"}}).text


def check(num: int, seed: int) -> int:
    """1 when anything is found in a preset, or in one of `num` combinations of values."""
    began = time.monotonic()
    given = {name: preset_values(name) for name in presets()}
    for values in given.values():
        lint(values)
    renderings = [render(name, values) for name, values in {**given, **combinations(num, seed)}.items()]
    found = 0
    sets = {rendering.name: [*rendering.objects, *beside(rendering.values)] for rendering in renderings}
    for name, findings in in_each(sets).items():
        found += len(findings)
        for finding in findings:
            print(f"{name}: {finding}")
    asked = bool(os.environ.get("KUBECONFIG"))
    for refusal in refusals(given) if asked else ():
        found += 1
        print(refusal)
    num_objects = sum(len(rendering.objects) for rendering in renderings)
    print(
        f"k8s-check: {len(presets())} presets and {num} combinations of values (seed {seed}), {num_objects} objects, "
        f"Kubernetes {' and '.join(VERSIONS)}: {found or 'nothing'} found in {time.monotonic() - began:.0f} s"
        + ("" if asked else "; no cluster was asked, KUBECONFIG is not set")
    )
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
