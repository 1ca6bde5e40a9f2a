"""The vLLM server's command line and environment, and what is refused before it is started."""

import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.launcher.redis_server import free_port
from services.policy.engines.vllm import serving
from services.policy.engines.vllm.serving import ServerOptions, ServingError
from services.policy.engines.vllm.stops import stop_ids_of
from shared.runtime.key_files import write_private
from tests.support import tiny_models


@pytest.fixture
def options(tmp_path: Path) -> ServerOptions:
    return ServerOptions(model=tiny_models.make_model(tmp_path / "model", seed=1, context=9000), port=free_port())


def value_of(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_the_server_listens_on_this_machine_only_and_knows_the_extension(options: ServerOptions) -> None:
    command = serving.arguments(Path("/venv/bin/python"), options)
    assert command[:3] == ["/venv/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    assert value_of(command, "--host") == "127.0.0.1"
    module, _, name = value_of(command, "--worker-extension-cls").partition(".")
    folder = Path(serving.environment(options, {})["PYTHONPATH"])
    assert f"class {name}:" in (folder / f"{module}.py").read_text()


def test_on_a_cpu_prompts_are_computed_whole_even_the_longest(options: ServerOptions) -> None:
    """A step must take the longest prompt: the model's context of 9,000 tokens, or what --max-model-len leaves."""
    command = serving.arguments(Path("python"), options)
    assert "--no-enable-chunked-prefill" in command
    assert value_of(command, "--max-num-batched-tokens") == "9000"
    shorter = serving.arguments(Path("python"), replace(options, max_model_len=512))
    assert value_of(shorter, "--max-num-batched-tokens") == "8192"
    gpu = serving.arguments(Path("python"), replace(options, device="cuda"))
    assert "--enforce-eager" not in gpu
    assert "--gpu-memory-utilization" in gpu


def test_the_key_is_in_the_environment_and_not_on_the_command_line(options: ServerOptions, tmp_path: Path) -> None:
    file = tmp_path / "key"
    write_private(file, "sesame\n")
    chosen = replace(options, api_key_file=file)
    assert serving.environment(chosen, {})["VLLM_API_KEY"] == "sesame"
    assert "sesame" not in " ".join(serving.arguments(Path("python"), chosen))
    file.chmod(0o604)
    with pytest.raises(ServingError, match="chmod 600"):
        serving.environment(chosen, {})
    write_private(file, "")
    with pytest.raises(ServingError, match="is empty"):
        serving.environment(chosen, {})


def test_a_key_is_asked_for_at_every_route_and_nothing_of_the_current_folder_is_imported(
    options: ServerOptions, tmp_path: Path
) -> None:
    """The stock server asks below /v1 only: its admin routes, which load weights, are elsewhere."""
    without = serving.arguments(Path("python"), options)
    assert "--middleware" not in without
    given = serving.arguments(Path("python"), replace(options, api_key_file=tmp_path / "key"))
    assert value_of(given, "--middleware") == serving.KEY_CLASS
    assert serving.environment(options, {})["PYTHONSAFEPATH"] == "1"


def test_the_servers_environment_has_nothing_of_ours(options: ServerOptions) -> None:
    """Neither our packages nor our secrets."""
    base = {"PATH": "/bin", "PYTHONPATH": "/ours", "INPO_API_KEY": "sesame"}
    found = serving.environment(options, base)
    assert found["PATH"] == "/bin"
    assert "/ours" not in found["PYTHONPATH"]
    assert "sesame" not in found.values()
    assert found["HF_HUB_OFFLINE"] == found["VLLM_NO_USAGE_STATS"] == "1"


def test_a_port_that_is_taken_is_named(options: ServerOptions) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"port {port} of 127.0.0.1 cannot be had"):
            serving.check_host(replace(options, port=port))


def test_a_directory_without_a_model_is_named(options: ServerOptions, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"no config\.json"):
        serving.check_host(replace(options, model=tmp_path))


def test_a_missing_library_is_named_with_its_package(options: ServerOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")

    def find_library(name: str) -> str | None:
        return None

    monkeypatch.setattr("ctypes.util.find_library", find_library)
    with pytest.raises(ServingError, match="apt-get install libnuma1"):
        serving.check_host(options)


def test_an_environment_without_vllm_is_named_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INPO_VLLM_PYTHON", raising=False)
    with pytest.raises(ServingError, match=r"\.venv-vllm/bin/python does not exist: run `make vllm`"):
        serving.vllm_python(tmp_path)
    monkeypatch.setenv("INPO_VLLM_PYTHON", sys.executable)
    assert serving.vllm_python(tmp_path) == Path(sys.executable)


def test_stop_tokens_are_those_of_both_configurations(tmp_path: Path) -> None:
    """Llama 3 names one EOS in config.json and three in generation_config.json."""
    (tmp_path / "config.json").write_text('{"eos_token_id": 9}')
    assert stop_ids_of(tmp_path) == [9]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [9, 4, 7]}')
    assert stop_ids_of(tmp_path) == [4, 7, 9]
    (tmp_path / "config.json").write_text('{"text_config": {"eos_token_id": null}}')
    (tmp_path / "generation_config.json").unlink()
    assert stop_ids_of(tmp_path) == []
