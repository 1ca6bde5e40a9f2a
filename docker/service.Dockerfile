# One of our services, with nothing installed but its own extra: LOCK names the file in requirements/.
#   docker build -f docker/service.Dockerfile --build-arg SERVICE=trainer --build-arg LOCK=trainer-gpu .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
ARG LOCK
COPY scripts/install-lock requirements/${LOCK}.lock ./
RUN --mount=type=cache,target=/root/.cache/pip python -m venv /venv && ./install-lock /venv ${LOCK}.lock
COPY LICENSE README.md pyproject.toml ./
COPY shared shared
COPY services services
RUN --mount=type=cache,target=/root/.cache/pip /venv/bin/pip install -qq --no-deps .

FROM ${BASE}
# Volumes take the owner of these folders when they are new. /hub caches what a run names by hub id.
RUN groupadd --gid 10001 inpo && useradd --uid 10001 --gid inpo --no-create-home --home-dir /tmp inpo \
  && mkdir /store /models /keys /vllm-key /hub && chown inpo:inpo /store /models /keys /vllm-key /hub
ARG SERVICE
COPY --from=build /venv /venv
# Nothing is imported from the folder that a process happens to be in.
WORKDIR /
ENV PATH=/venv/bin:$PATH PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 HOME=/tmp HF_HOME=/hub DO_NOT_TRACK=1 \
    INPO_STORE_DIR=/store SERVICE=${SERVICE}
USER inpo
CMD ["sh", "-c", "exec python -P -m services.$SERVICE"]
