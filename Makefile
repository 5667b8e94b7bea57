# The everyday commands: `make` lists them. Each runs in the environment that is active.

.PHONY: help test fast plain lint fix bench doctor parity names equations site ci

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

test: ## all tests, about five minutes on two cores
	pytest -q

fast: ## layers, operations and optimizers, without the suites that take long
	pytest -q tests/ops tests/nn tests/optim tests/data tests/errors

plain: ## all tests without machine code and oneDNN, as where no extra is installed
	ANYNET_NUMBA=off ANYNET_ONEDNN=off pytest -q

lint: ## ruff, mypy and the import contracts
	ruff check .
	ruff format --check .
	mypy
	lint-imports

fix: ## what ruff can mend, and the format
	ruff check --fix .
	ruff format .

bench: ## the benchmarks; results go to ci/bench/RESULTS.md
	python -m ci.bench

doctor: ## what works on this machine
	anynet doctor

parity: ## every operation on every device of this machine, against NumPy
	anynet parity

names: ## write the list of public names (tests/packaging/names.json)
	python tests/packaging/test_package.py

equations: ## write the equations into the docstrings of functions (tests/equations compares)
	python -m ci.equations

site: ## the documentation, into build/site
	python -m ci.site

ci: ## what CI does, in fresh environments
	.ci/run
