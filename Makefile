# Every way in. `make demo` is the first thing to try; each target does all the set-up it needs.

SHELL := /bin/bash
PYTHON := .venv/bin/python
WEFT := .venv/bin/weft
BUF := .venv/bin/buf

# Processes compile themselves once; without this each of them would do it again at every start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests up demo test test-long check bench chaos gen gen-xds docs capture down clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## Install what is missing: system packages, .venv, generated descriptors, the console's page
	@deploy/setup.sh

setup-tests:
	@deploy/setup.sh tests

up: setup ## Start the whole mesh in the background and print where everything is; PROFILE=ha: all servers threefold; TRACES=zipkin
	@$(PYTHON) -m docs.site.beside start
	@$(if $(PROFILE),WEFT_PROFILE=$(PROFILE)) $(if $(TRACES),WEFT_TRACES=$(TRACES)) $(WEFT) up
	@$(PYTHON) -m docs.site.beside tell

demo: up ## Start the mesh, send it a synthetic day of orders, print the balance
	@$(WEFT) demo

test: setup-tests ## Run the whole suite on a mesh of its own, beside a running one or without
	$(PYTHON) -m pytest -n $(or $(WORKERS),2) --dist loadgroup --no-loadscope-reorder $(ARGS)

test-long: setup-tests ## Run the long forms, which `make test` leaves out: each has a short one there
	$(PYTHON) -m pytest -m long $(or $(ARGS),tests/integration)

bench: ## Measure what Weft claims of its cost; results in bench/results, one file for each claim
	@deploy/setup.sh bench
	@$(PYTHON) -m bench $(ARGS)

chaos: setup ## Hurt a mesh of its own by seeded schedules and check its invariants; SEED=, SCHEDULES=, SECONDS=, PROFILE=ha
	@$(PYTHON) -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(SCHEDULES),--schedules $(SCHEDULES)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(PROFILE),--profile $(PROFILE))

check: setup-tests ## Lint, types, import rules, contracts, generated code
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(WEFT) contracts check
	$(PYTHON) protos/py/generate.py --check
	$(PYTHON) -m docs.site pages --check
	console/generate --check
	$(WEFT) export compose --check
	$(WEFT) export kubernetes --check
	.venv/bin/hadolint deploy/images/*.Dockerfile
	console/npm run --silent types
	console/npm run --silent lint
	$(PYTHON) -m svc.chassis.migration_steps

gen: setup-tests ## Generate protos/gen, console/src/gen, pages of docs/, deploy/compose and deploy/k8s
	$(PYTHON) protos/py/generate.py
	$(PYTHON) -m docs.site pages
	console/generate
	$(WEFT) export compose
	$(WEFT) export kubernetes

docs: setup ## Build the documents as a site with search into build/docs; a running mesh serves it at /docs/
	@$(PYTHON) -m docs.site build

capture: ## Record docs/weft.svg from commands on the running mesh
	@$(PYTHON) -m docs.capture $(ARGS)

gen-xds: setup ## Make the xDS descriptors again
	$(PYTHON) protos/py/make_xds.py

down: ## Stop what `make up` started; the data stays
	@if [ -x $(WEFT) ]; then $(WEFT) down; else echo "nothing runs"; fi

clean: down ## Stop the mesh and remove its data
	@if [ -x $(WEFT) ]; then $(PYTHON) -m deploy.supervisor clean; fi
