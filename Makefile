# `make` prints the flow and the targets. Python >= 3.11 and make are all a machine needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_S ?=
KILLS ?=
CHAOS_S ?=
SEED ?=
WORKERS ?= 4

.DEFAULT_GOAL := help
.PHONY: help env dev-stack dev-stack-down dev-stack-reset schemas check style types contracts official archives test test-long test-fast demo chaos bench lock

help:
	@printf 'venue -> raw -> market -> derived -> decision -> order -> venue\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

env: $(VENV)/.stamp ## make the virtual environment from requirements.lock

$(VENV)/.stamp: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock && $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e . && touch $@

dev-stack: env ## start Kafka, the schema registry and QuestDB; print where they listen; BROKERS=3 starts three Kafka nodes
	$(if $(BROKERS),CROSSBOOK_STACK_BROKERS=$(BROKERS) )$(BIN)/python -m infra.stack up

dev-stack-down: env ## stop them; their data stays
	$(BIN)/python -m infra.stack down

dev-stack-reset: env ## stop them and delete their data
	$(BIN)/python -m infra.stack reset

schemas: env ## generate the record classes from schemas/*/*.avsc
	$(BIN)/python -m schemas.generate

check: style types contracts test ## everything CI asks for

style: env
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: env
	$(BIN)/mypy . && $(BIN)/lint-imports

contracts: env
	$(BIN)/python -m schemas.generate --check
	$(BIN)/python -m schemas.compatibility

official: build/official/.stamp ## an environment with Polymarket's own clients, for the tests that compare

build/official/.stamp: tests/simulate/official/requirements.lock
	$(PYTHON) -m venv build/official
	build/official/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $< && touch $@

archives: env ## the servers' archives
	$(BIN)/python -m infra.stack fetch

test: env official archives ## the tests, with real servers on free ports
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations=15 -m "not long"

test-long: env archives ## the tests that take minutes: each worker struck, brokers killed, scaling, paper
	$(BIN)/python -m pytest -q -m long

test-fast: env official ## the tests that need no server
	$(BIN)/python -m pytest -q -m "not broker"

demo: env ## the whole flow against simulated venues; DEMO_S=30 KILLS=5 and build/demo.json
	$(BIN)/crossbook demo $(if $(DEMO_S),--seconds $(DEMO_S)) $(if $(KILLS),--kills $(KILLS))

chaos: env ## trade while processes die and venues misbehave, judge everything; CHAOS_S=60 SEED=2 BROKERS=3; build/chaos.html
	$(BIN)/crossbook chaos $(if $(CHAOS_S),--seconds $(CHAOS_S)) $(if $(SEED),--seed $(SEED)) $(if $(BROKERS),--brokers $(BROKERS))

bench: env ## measure; each figure with its machine and its peer
	$(BIN)/python -m benchmarks

lock: ## pin the newest dependencies (needs uv) and the servers' archives
	uv pip compile -q --upgrade --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock pyproject.toml
	cd tests/simulate/official && uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock requirements.in
	$(MAKE) env && $(BIN)/python -m infra.stack pin
