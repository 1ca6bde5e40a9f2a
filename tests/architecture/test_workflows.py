"""What .github/ and the hooks name exists here; workflows take no more rights than they need. GitHub is not asked."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS: dict[str, dict[Any, Any]] = {
    file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in (GITHUB / "workflows").iterdir()
}
TEXTS = [file for file in GITHUB.rglob("*") if file.is_file()]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
    "services"
]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

COMMAND = re.compile(r"(?:run: |name: |`|&& |^\s+)make ([a-z0-9-]+)", re.MULTILINE)
PINNED = re.compile(r"(\./\.github/workflows/[a-z]+\.yml|[\w./-]+@(v\d+|release/v\d+|[0-9a-f]{40}))")


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for file, workflow in WORKFLOWS.items():
        for name, job in workflow["jobs"].items():
            yield file, name, job


def released(key: str) -> list[dict[str, str]]:
    return WORKFLOWS["release.yml"]["jobs"][key]["strategy"]["matrix"]["include"]


def as_composed(text: str) -> str:
    """A value of docker-compose.yml where no variable is set: `${NAME:-default}` is the default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_there_are_workflows_for_changes_and_for_releases() -> None:
    assert set(WORKFLOWS) == {"ci.yml", "release.yml"}


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.name)
def test_every_make_target_that_is_named_exists(file: Path) -> None:
    assert set(COMMAND.findall(file.read_text(encoding="utf-8"))) <= TARGETS


def test_the_targets_are_found_where_they_are_named() -> None:
    named = COMMAND.findall((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert {"check", "test", "vllm", "doctor"} <= set(named)


def test_the_oldest_python_that_is_checked_is_the_oldest_that_is_promised() -> None:
    checked = WORKFLOWS["ci.yml"]["jobs"]["check"]["strategy"]["matrix"]["python"]
    versions = [tuple(map(int, version.split("."))) for version in checked]
    assert PROJECT["requires-python"] == f">={checked[0]}"
    assert versions == [(3, versions[0][1] + step) for step in range(len(versions))]


def test_the_other_jobs_run_on_the_python_that_the_locks_were_resolved_for() -> None:
    [resolved] = re.findall(r"--python-version (\S+)", (ROOT / "scripts" / "lock").read_text(encoding="utf-8"))
    asked = [
        step["with"]["python-version"]
        for _, _, job in jobs()
        for step in job.get("steps", [])
        if step.get("uses", "").startswith("actions/setup-python@")
    ]
    assert set(asked) == {resolved, "${{ matrix.python }}"}


def test_the_released_images_are_those_that_compose_builds() -> None:
    built = {
        (service["image"], *(as_composed(service["build"]["args"][name]) for name in ("SERVICE", "LOCK")))
        for service in SERVICES.values()
        if "args" in service.get("build", {})
    }
    assert {(entry["image"], entry["service"], entry["lock"]) for entry in released("images")} == built


def test_the_files_that_an_image_is_built_from_exist() -> None:
    [build] = [
        step["with"] for step in WORKFLOWS["release.yml"]["jobs"]["images"]["steps"] if "file" in step.get("with", {})
    ]
    assert (ROOT / build["file"]).is_file()
    for entry in released("images"):
        assert (ROOT / "requirements" / f"{entry['lock']}.lock").is_file()
        assert (ROOT / "services" / entry["service"] / "__main__.py").is_file()


def test_nothing_is_released_that_was_not_audited_and_images_say_what_they_are_made_of() -> None:
    release = WORKFLOWS["release.yml"]["jobs"]
    audit = "\n".join(step.get("run", "") for step in release["audit"]["steps"])
    assert "pip-audit --strict" in audit
    assert "cyclonedx-py requirements" in audit
    assert "requirements/*.lock" in audit
    assert all("audit" in release[name]["needs"] for name in ("pypi", "images"))
    steps = release["images"]["steps"]
    assert any(step.get("run") == "make images-pin" for step in steps)
    assert [step["with"]["sbom"] for step in steps if "sbom" in step.get("with", {})] == [True]


def test_a_workflow_reads_and_only_publishing_writes() -> None:
    assert all(workflow["permissions"] == {"contents": "read"} for workflow in WORKFLOWS.values())
    more = {(file, name): job["permissions"] for file, name, job in jobs() if "permissions" in job}
    assert more == {
        ("release.yml", "pypi"): {"id-token": "write"},
        ("release.yml", "images"): {"contents": "read", "packages": "write"},
    }


def test_nothing_is_published_before_everything_is_checked() -> None:
    publishing = WORKFLOWS["release.yml"]["jobs"]
    assert all("check" in publishing[name]["needs"] for name in ("pypi", "images"))
    assert publishing["check"]["uses"] == "./.github/workflows/ci.yml"
    assert "workflow_call" in WORKFLOWS["ci.yml"][True]  # YAML 1.1 reads the key `on` as true


def test_every_action_is_pinned() -> None:
    used = [step["uses"] for _, _, job in jobs() for step in [job, *job.get("steps", [])] if "uses" in step]
    assert [name for name in used if not PINNED.fullmatch(name)] == []


def test_workflows_do_not_run_twice_side_by_side_for_one_ref() -> None:
    assert all("github.ref" in workflow["concurrency"]["group"] for workflow in WORKFLOWS.values())


@pytest.mark.parametrize("name", ["bug_report.yml", "feature_request.yml"])
def test_an_issue_form_has_what_github_wants(name: str) -> None:
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8"))
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert form["name"]
    assert form["description"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_a_pull_request_brings_the_evidence_that_contributing_asks_for() -> None:
    def changes(file: Path) -> list[str]:
        return re.findall(
            r"^\| ([^|]+) \|", file.read_text(encoding="utf-8").partition("## Proof of value")[2], re.MULTILINE
        )

    asked = changes(ROOT / "CONTRIBUTING.md")
    assert asked[0] == "change"
    assert changes(GITHUB / "pull_request_template.md") == asked


def test_a_commit_is_held_against_targets_of_make_and_ruffs_line_length() -> None:
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    commands = [hook["entry"].split() for hook in local["hooks"]]
    assert {command[0] for command in commands} == {"make"}
    assert {command[-1] for command in commands} == {"fmt-check", "lint", "types"} & TARGETS
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert f"max_line_length = {ruff['line-length']}\n" in (ROOT / ".editorconfig").read_text(encoding="utf-8")


def test_dependabot_looks_into_folders_that_exist() -> None:
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text(encoding="utf-8"))["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions", "docker", "docker-compose"}
    assert all((ROOT / update["directory"].lstrip("/")).is_dir() for update in updates)
