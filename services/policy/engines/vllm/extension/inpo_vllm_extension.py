# vLLM, its torch and safetensors live in vLLM's own environment; nothing of it is visible to the checker here.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""Runs inside vLLM's worker processes: the one thing that the stock server cannot do right, exchanging all weights.

Named to the server as `--worker-extension-cls inpo_vllm_extension.InpoWorkerExtension`, with this directory on its
PYTHONPATH, and reached over `POST /collective_rpc`. Imports nothing of INPO: the server has an environment of its own.
Method names must not be ones that vLLM's worker class has.
"""

import os
import signal
from pathlib import Path

import torch
from safetensors import safe_open
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.platforms import current_platform


class InpoWorkerExtension:
    """Mixed into vLLM's worker. Every method answers with plain JSON."""

    def swap_weights(self, weights_path):
        """Load the directory's weights into the serving model; nothing is touched when one of them is not finite.

        An exception after that leaves the model half loaded: the caller must load good weights, or end the server.
        """
        self.served_model()
        _check_finite(Path(weights_path))
        self.reload_weights(weights_path=str(weights_path))
        if current_platform.is_cpu():
            _repack_heads(self.model_runner.get_model())
        return {"loaded": str(weights_path)}

    def served_model(self):
        """What the server was started on: directory, precision, and the tensors that a checkpoint of it must have.

        Remembered from the first call, because vLLM's reload makes the loaded directory the model's own.
        """
        if not hasattr(self, "_inpo_served"):
            config = self.model_runner.model_config
            self._inpo_served = {
                "directory": str(config.model),
                "dtype": str(config.dtype).removeprefix("torch."),
                "max_model_len": int(config.max_model_len),
                "tied": bool(getattr(config.hf_text_config, "tie_word_embeddings", False)),
                "tensors": _tensors(Path(config.model)),
            }
        return self._inpo_served

    def end_server(self):
        """End this worker at once, as a crash would: the server dies with it and is started again by its supervisor."""
        os.kill(os.getpid(), signal.SIGKILL)


def _files(directory):
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{directory} holds no safetensors file")
    return files


def _tensors(directory):
    found = {}
    for file in _files(directory):
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (no mapping: it has `keys` only)
                part = tensors.get_slice(name)
                found[name] = {"dtype": part.get_dtype(), "shape": list(part.get_shape())}
    return found


def _check_finite(directory):
    for file in _files(directory):
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (no mapping: it has `keys` only)
                if not bool(torch.isfinite(tensors.get_tensor(name)).all()):
                    raise ValueError(f"tensor {name} holds NaN or infinity")


def _repack_heads(model):
    """On a CPU vLLM multiplies by a packed copy of each matrix.

    A reload packs the layers anew that received a tensor. A tied output head receives none, and would go on
    multiplying by the old embeddings.
    """
    for module in model.modules():
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
