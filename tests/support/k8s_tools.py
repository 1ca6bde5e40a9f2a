"""Whether the tools of `make k8s-tools` are here. CI has them, because `make check` makes them before the tests."""

import pytest

from k8s.check.chart import TOOLS

needs_tools = pytest.mark.skipif(not (TOOLS / "helm").exists(), reason="needs helm: run `make k8s-tools` once")
