"""What may be named: files below the allowed folders, wherever a link leads, and the hub where it is allowed."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from shared.runtime.reach import Reach
from shared.runtime.settings import Settings


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    models, private = tmp_path / "models", tmp_path / "private"
    for folder in (models, private):
        (folder / "mine").mkdir(parents=True)
    return models, private


def test_what_is_below_an_allowed_folder_may_be_named(folders: tuple[Path, Path]) -> None:
    models, private = folders
    reach = Reach((private / "absent", models), hub=False)
    for named in (models, models / "mine", models / "not-there-yet", models / ".." / "models" / "mine"):
        reach.check(str(named), hub=True)


def test_what_leads_elsewhere_is_refused_whether_or_not_it_is_there(folders: tuple[Path, Path]) -> None:
    models, private = folders
    (models / "link").symlink_to(private)
    (models / "loop").symlink_to(models / "loop")
    reach = Reach((models,), hub=False)
    elsewhere = [
        private / "mine",
        private / "absent",
        models / ".." / "private",
        models / "link" / "mine",
        models / "link",
        Path("/etc/passwd"),
        Path(f"{models}-of-another"),
        Path("../../etc"),
    ]
    for named in (*map(str, elsewhere), "~", "/" + "x" * 5000, "a\0b", ""):
        with pytest.raises(ValueError, match="INPO_ALLOWED_PATHS"):
            reach.check(named)


def test_a_hub_id_is_one_where_no_path_is_and_needs_leave(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, private = folders
    Reach((models,), hub=True).check("org/name", hub=True)
    with pytest.raises(ValueError, match="INPO_ALLOW_HUB"):
        Reach((models,), hub=False).check("org/name", hub=True)
    with pytest.raises(ValueError, match="INPO_ALLOWED_PATHS"):
        Reach((models,), hub=True).check("prompts/set.jsonl", hub=False)
    monkeypatch.chdir(private.parent)
    with pytest.raises(ValueError, match="INPO_ALLOWED_PATHS"):
        Reach((models,), hub=True).check("private/mine", hub=True)


@pytest.mark.parametrize(
    ("settings", "keyed", "expected"),
    [
        ({}, False, Reach(None, hub=True)),
        ({}, True, Reach((), hub=False)),
        ({"allowed_paths": ["/models"]}, True, Reach((Path("/models"),), hub=False)),
        ({"allowed_paths": ["/models"], "allow_hub": True}, True, Reach((Path("/models"),), hub=True)),
        ({"allow_hub": False}, False, Reach(None, hub=False)),
    ],
)
def test_what_is_left_open_is_open_only_where_there_are_no_keys(
    settings: dict[str, object], keyed: bool, expected: Reach
) -> None:
    assert Reach.of(TypeAdapter(Settings).validate_python(settings), keyed=keyed) == expected
