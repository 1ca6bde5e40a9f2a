"""Where a system runs is taken from a file of the user's own, or not at all: his key goes there."""

from pathlib import Path

import pytest

from services.cli.commands.options import connect
from services.cli.failures import UserError
from services.cli.launcher.up import UP, Whereabouts, whereabouts
from shared.runtime.key_files import write_private

HERE = "http://127.0.0.1:8123"


def put(folder: Path, url: str = HERE) -> Path:
    where = Whereabouts(url=url, oracle_url=HERE, policy_url=HERE, redis_url="redis://:s3cret@h/0", store_dir=folder)
    write_private(folder / UP, where.model_dump_json())
    return folder / UP


def test_the_file_that_inpo_up_wrote_is_believed(tmp_path: Path) -> None:
    assert whereabouts(tmp_path) is None
    put(tmp_path)
    found = whereabouts(tmp_path)
    assert found is not None
    assert found.url == HERE
    assert "s3cret" not in repr(found)
    assert connect(None, tmp_path, None).url == HERE


@pytest.mark.parametrize("modes", [(0o700, 0o644), (0o777, 0o600), (0o775, 0o600)])
def test_a_key_is_not_sent_where_a_strangers_file_says(tmp_path: Path, modes: tuple[int, int]) -> None:
    """As it lies in a folder that was cloned, unpacked, or shared: `inpo runs` in it would send the key."""
    file = put(tmp_path)
    tmp_path.chmod(modes[0])
    file.chmod(modes[1])
    for ask in (lambda: whereabouts(tmp_path), lambda: connect(None, tmp_path, None)):
        with pytest.raises(UserError, match="--url") as caught:
            ask()
        assert str(file) in str(caught.value)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://evil.example:8000", "http://127.0.0.1.evil.example", "http://a@evil.example"])
def test_a_file_that_names_another_machine_is_not_what_inpo_up_wrote(tmp_path: Path, url: str) -> None:
    put(tmp_path, url)
    with pytest.raises(UserError, match="not what `inpo up` wrote"):
        whereabouts(tmp_path)


def test_whoever_names_the_controller_himself_asks_that(tmp_path: Path) -> None:
    put(tmp_path).chmod(0o644)
    assert connect("http://controller.example", tmp_path, None).url == "http://controller.example"
