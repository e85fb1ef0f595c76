# The same words as dev.py, for people who type make. `make test ARGS="-k redis"` passes arguments on.
PYTHON ?= python3
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## profile a small program and show its report
	@$(PYTHON) dev.py demo $(ARGS)

test: ## run the tests
	@$(PYTHON) dev.py test $(ARGS)

lint: ## ruff, mypy and the import contracts
	@$(PYTHON) dev.py lint $(ARGS)

bench: ## run the benchmarks
	@$(PYTHON) dev.py bench $(ARGS)

docs: ## build the documentation; warnings are errors
	@$(PYTHON) dev.py docs $(ARGS)
