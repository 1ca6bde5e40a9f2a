"""Which URLs may be called: matched by their parts, so that no spelling leads elsewhere."""

from pathlib import Path

import pytest

from services.oracle.judge import JudgeBuildError
from services.oracle.judges.http.allowed_urls import check_allowed, key_for
from services.oracle.settings import OracleSettings
from shared.runtime.key_files import write_private

PREFIXES = ["https://judge.example.com/v1/", "http://127.0.0.1:*"]


@pytest.mark.parametrize(
    "url",
    [
        "https://judge.example.com/v1/judgments",
        "https://judge.example.com/v1",
        "HTTPS://Judge.Example.COM:443/v1/judgments",
        "http://127.0.0.1/v1/judgments",
        "http://127.0.0.1:9000/any/path",
    ],
)
def test_a_url_below_a_prefix_is_allowed(url: str) -> None:
    check_allowed(url, PREFIXES)


@pytest.mark.parametrize(
    "url",
    [
        "http://judge.example.com/v1/judgments",  # scheme
        "https://judge.example.com.evil.org/v1/judgments",  # host
        "https://evil.org/https://judge.example.com/v1/",
        "https://judge.example.com:8443/v1/judgments",  # port
        "https://judge.example.com/v10/judgments",  # path, not text
        "https://judge.example.com/",
        "https://judge.example.com/v1/../admin",  # dots
        "https://judge.example.com/v1/%2e%2e/admin",  # escapes
        "https://judge.example.com/v1//admin",
        "https://judge.example.com@evil.org/v1/judgments",  # user info
        "https://user:password@judge.example.com/v1/judgments",
        "https://judge.example.com\\@evil.org/v1/judgments",
        "https://judge.example.com/v1/judgments?to=evil.org",
        "https://judge.example.com/v1/judgments#x",
        "http://127.0.0.1:*/v1/judgments",
        "http://127.1/v1/judgments",
        "http://2130706433/v1/judgments",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]:9000/v1/judgments",
        "http://127.0.0.1:9000/v1/jüdgments",
        "http://127.0.0.1:9000/v1/judgments\r\nx: y",
        "ftp://127.0.0.1/v1/judgments",
        "file:///etc/passwd",
        "",
    ],
)
def test_every_other_url_is_refused(url: str) -> None:
    with pytest.raises(JudgeBuildError) as caught:
        check_allowed(url, PREFIXES)
    assert caught.value.field == "url"
    assert "password" not in str(caught.value)


def test_by_default_judges_are_at_one_port_of_this_machine() -> None:
    """On others stand vLLM's admin routes, Redis and our own APIs, which trust who asks from this machine."""
    allowed = OracleSettings().oracle_http_judges
    for host in ("127.0.0.1", "localhost", "[::1]"):
        check_allowed(f"http://{host}:9000/v1/judgments", allowed)
        for port in (80, 6379, 8000, 8001, 8010, 8999, 9001, 65535):
            with pytest.raises(JudgeBuildError, match="INPO_ORACLE_HTTP_JUDGES"):
                check_allowed(f"http://{host}:{port}/v1/judgments", allowed)
    with pytest.raises(JudgeBuildError):
        check_allowed("http://10.0.0.1:9000/v1/judgments", allowed)


def test_the_key_is_that_of_the_longest_prefix_and_of_no_other_host(tmp_path: Path) -> None:
    general, special = tmp_path / "general", tmp_path / "special"
    write_private(general, "general\n")
    write_private(special, "special\nsecond line\n")
    files = {"https://a.example": general, "https://a.example/v2": special}
    assert key_for("https://a.example/v1/judgments", files) == "general"
    assert key_for("https://a.example/v2/judgments", files) == "special"
    assert key_for("https://b.example/v1/judgments", files) is None


@pytest.mark.parametrize("content", ["", "\n", "kéy\n", None])
def test_a_key_file_without_a_key_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        write_private(file, content)
    with pytest.raises(JudgeBuildError, match="INPO_ORACLE_HTTP_KEY_FILES"):
        key_for("https://a.example/v1", {"https://a.example": file})


def test_a_key_file_that_others_can_read_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    write_private(file, "s3cret\n")
    file.chmod(0o644)
    with pytest.raises(JudgeBuildError, match=r"INPO_ORACLE_HTTP_KEY_FILES.*chmod 600") as caught:
        key_for("https://a.example/v1", {"https://a.example": file})
    assert "s3cret" not in str(caught.value)
