# `make demo` and `make test` each do all of their own set-up; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
RUNS ?= runs/demo
PORT ?= 5000

# With PY set (say PY=python3), nothing is installed and that Python is used: for machines without a network.
ifdef PY
SETUP :=
else
PY := .venv/bin/python
SETUP := .venv/.installed
endif
BIN := $(if $(findstring /,$(PY)),$(dir $(PY)))

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo demo-paper mlflow test lint check format lock test-gpu bench-gpu clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: $(SETUP) ## create .venv with the locked packages

# Pillow-SIMD is compiled here; with AVX2 where the processor has it, which makes resizing quicker still.
.venv/.installed: requirements.lock pyproject.toml
	@./.ci/check-system.sh
	@test -x .venv/bin/python || python3 -m venv .venv
	@uv=$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock); .venv/bin/pip install --quiet --disable-pip-version-check "$$uv"
	@echo "setup: installing the locked packages into .venv (6.6 GB, about a minute on a fast line)"
	@CC="cc $$(grep -qw avx2 /proc/cpuinfo && echo -mavx2)" .venv/bin/uv pip install --python .venv --require-hashes -r requirements.lock
	@.venv/bin/uv pip install --quiet --python .venv --no-deps --editable .
	@touch $@

demo: $(SETUP) ## every stage on handwritten digits: what the winning code did
	@$(PY) -m pipeline demo

demo-paper: $(SETUP) ## the same with the paper's text taken literally
	@$(PY) -m pipeline demo --experiment paper

mlflow: $(SETUP) ## open MLflow on the runs below RUNS (runs/demo), on this machine only
	@test -f "$(RUNS)/mlflow.db" || { echo "make mlflow: $(RUNS) has no mlflow.db: run \`make demo\` first, or say where with RUNS=DIR"; exit 2; }
	@echo "mlflow: http://127.0.0.1:$(PORT) (Ctrl-C stops it)"
	@MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(PY) -m mlflow server --backend-store-uri "sqlite:///$(RUNS)/mlflow.db" --artifacts-destination "$$(cd "$(RUNS)" && pwd)/mlflow-artifacts" --host 127.0.0.1 --port $(PORT) --workers 1

test: $(SETUP) ## the tests
	@$(PY) -m pytest -n 2

check: lint test ## everything that CI asks

lint: $(SETUP) ## format, lint, types, layers, shell scripts
	@$(BIN)ruff format --check .
	@$(BIN)ruff check .
	@$(BIN)mypy
	@$(BIN)lint-imports
	@git ls-files -z '*.sh' '*.sbatch' .ci/run | xargs -0 $(BIN)shellcheck
	@$(BIN)hadolint docker/Dockerfile

format: $(SETUP) ## put the code into shape
	@$(BIN)ruff format . && $(BIN)ruff check --fix .

lock: $(SETUP) ## write both locks anew from pyproject.toml: hashes, no download addresses
	@$(BIN)$(COMPILE) --extra dev --extra server pyproject.toml -o requirements.lock
	@cp requirements.lock docker/requirements.lock  # uv keeps the versions that it finds there
	@$(BIN)$(COMPILE) --extra server pyproject.toml -o docker/requirements.lock
	@! grep -nE 'https?://|file:' requirements.lock docker/requirements.lock

test-gpu: $(SETUP) ## the tests that need a GPU
	@$(PY) -m pytest -m gpu

bench-gpu: $(SETUP) ## loader, layers and training speed on a GPU, as JSON in results/gpu/
	@$(PY) -m pipeline bench augment --device cuda --out results/gpu
	@$(PY) -m pipeline bench train --device cuda --out results/gpu
	@$(PY) -m pipeline bench layers --device cuda --compile --out results/gpu

clean: ## remove the demo's files
	rm -rf runs/demo
