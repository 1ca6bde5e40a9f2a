"""Generated pages equal what the code says now."""

from services.cli.docs import TARGET, render


def test_the_configuration_page_is_what_make_docs_writes() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run `make docs` and commit docs/configuration.md"
