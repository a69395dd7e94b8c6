# Each target is a line or two; what they do is in devtools/ and pyproject.toml.
.DEFAULT_GOAL := help
.PHONY: help install run kql chaos bench bench-recorder bench-imports bench-rollup test check package cost lock clean

PYTHON := .venv/bin/python
WORKERS ?= 2
COMPILE := UV_SYSTEM_CERTS=true PATH="$$PATH:.local/tools/bin" uv pip compile --universal --python-version 3.13 --generate-hashes --no-header -q

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

install: ## Make .venv and node_modules ready (every target below does so first)
	@devtools/bootstrap.sh

run: install ## Start the gateway and all it needs; Ctrl-C stops everything
	@$(PYTHON) -m devtools.run --stop-with-parent

kql: install ## Ask the archive in KQL: a prompt, or QUERY='Calls | count'
	@$(PYTHON) -m devtools.kql $(if $(QUERY),--query "$$QUERY")

chaos: install ## Kill, stop and double everything under load, then compare all accounts. CALLS=500 SEED=7 FAULTS=30 OUTAGE=60 TRANSPORT=event-hubs
	@$(PYTHON) -m devtools.chaos $(if $(CALLS),--calls $(CALLS)) $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(OUTAGE),--outage $(OUTAGE)) $(if $(TRANSPORT),--transport $(TRANSPORT))

bench: install ## Compare with nginx and a bare host in one run: 4 minutes. PEERS=1 adds LiteLLM and Portkey, CALLS=n
	@$(PYTHON) -m bench.gateway $(if $(CALLS),--calls $(CALLS)) $(if $(PEERS),--peers)

bench-recorder: install ## Calls a second that one core records, by number and size, and where the time goes. CALLS=n
	@$(PYTHON) -m bench.recorder $(if $(CALLS),--calls $(CALLS))

bench-imports: install ## How long the app takes to load, with byte code and without, and to answer first
	@$(PYTHON) -m bench.imports

bench-rollup: install ## Count a month exactly, whatever is killed or late, beside a recount: minutes. ENTRIES=1000000 STORE=azurite
	@$(PYTHON) -m bench.rollup $(if $(ENTRIES),--entries $(ENTRIES)) $(if $(STORE),--store $(STORE))

test: ## Run all tests, in two processes with a storage emulator each. WORKERS=0 for one after another
	@devtools/bootstrap.sh --with-browser
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile

check: install ## Lint, check the formatting and the types
	.venv/bin/ruff check . && .venv/bin/ruff format --check .
	.venv/bin/mypy

package: install ## Build the zip that is deployed, and list what is in it
	@$(PYTHON) -m devtools.package

cost: install ## Print what a month costs in Azure, beside API Management
	@$(PYTHON) -m devtools.cost

lock: install ## Compile requirements*.in to the hashed requirements*.txt
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt

clean: ## Remove what was installed and built; .local (data, keys, logs) stays
	rm -rf .venv node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
