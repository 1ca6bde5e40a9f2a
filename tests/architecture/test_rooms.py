"""The house as docs/architecture.md and docs/reading-order.md describe it."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(
    {
        file.parent
        for top in ("services", "shared")
        for file in (ROOT / top).rglob("*.py")
        if "extension" not in file.parts
    }
)
MAX_MODULES = 12


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_holds_twelve_modules_at_most_and_says_what_lives_there(folder: Path) -> None:
    modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


def test_every_hop_of_the_reading_order_is_a_function_that_exists() -> None:
    page = (ROOT / "docs" / "reading-order.md").read_text()
    named = re.findall(r"`((?:services|shared)\.[\w.]+):([\w.]+)`", page)
    assert len(named) >= 10
    for module, path in named:
        found: object = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        assert callable(found)


@pytest.mark.parametrize("page", ["docs/reading-order.md", "docs/architecture.md", "README.md"])
def test_every_file_and_folder_that_a_page_names_whole_exists(page: str) -> None:
    named = re.findall(r"`((?:services|shared|tests|docs|examples|docker)/[\w./-]*)`", (ROOT / page).read_text())
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]
