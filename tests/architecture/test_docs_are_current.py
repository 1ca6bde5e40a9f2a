"""Generated pages equal what the code says now."""

import re

from services.cli.docs import TARGET, render

ROOT = TARGET.parents[1]
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_the_configuration_page_is_what_make_docs_writes() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run `make docs` and commit docs/configuration.md"


def test_what_the_security_page_names_exists() -> None:
    assert {name for name in re.findall(r"INPO_\w+", SECURITY) if name not in render()} == set()
    files = re.findall(r"\]\(([\w/.-]+)\)", SECURITY)
    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []
