# Everything here sets itself up: it needs git, make and Python 3.11 or newer, nothing else.
# What is missing is said in one line.

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check audit sbom bench chaos fmt docs clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.ready ## Watch the whole platform run on real market data (under two minutes)
	@$(BIN)/trading-ml demo

test: .venv/.ready ## Run the tests, doctests included
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/.ready ## Lint, format check, types, import contracts, known vulnerabilities, then the tests
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@.ci/audit
	@$(MAKE) --no-print-directory test

audit: .venv/.ready ## Look the locked dependencies up in the database of advisories
	@.ci/audit

SBOM := dist/sbom.cdx.json
sbom: .venv/.ready ## Write what is shipped, with versions, as CycloneDX: dist/sbom.cdx.json
	@mkdir -p "$(dir $(SBOM))"
	@.ci/uv export --frozen --quiet --no-dev --all-extras --format cyclonedx1.5 --output-file "$(SBOM)" >/dev/null

bench: .venv/.ready ## Measure against a hand-written Kafka loop and other frameworks; writes benchmarks/results.json
	@$(BIN)/python -m benchmarks.run

chaos: .venv/.ready ## Kill, pause and damage everything on a real Kafka for an hour; writes docs/reliability.md
	@$(BIN)/python -m tests.chaos.run --write

fmt: .venv/.ready ## Format the code and repair what the linter can
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

docs: .venv/.ready ## Write docs/settings.md and docs/errors.md from the code
	@$(BIN)/python -m docs.pages

clean: ## Remove everything made here: environment, data, caches
	@rm -rf .venv .venv-bootstrap .venv-peers var dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Only when dependencies change: a second run starts at once.
.venv/.ready: pyproject.toml uv.lock .ci/setup .ci/uv
	@.ci/setup
