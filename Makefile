# POSIX make and sh. Everything lives in .venv inside the tree; nothing outside it is written.
.POSIX:
.SUFFIXES:

PYTHON = python3
VENV = .venv
PY = $(VENV)/bin/python
PACKAGES = protocol actors supervisor web
LOCKS = requirements/build.txt requirements/run.txt requirements/dev.txt
AGENTS = build/agents
# Where bubblewrap works the agents have no network but the loopback, so that the run proves that they need none.
ALONE = $$(bwrap --dev-bind / / --unshare-net true 2>/dev/null && echo bwrap --dev-bind / / --unshare-net)
COMPILE = uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock'

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/.run ## make .venv and install the locked runtime and the project into it
run: install ## install, then serve
	$(VENV)/bin/enginehouse serve

test: $(VENV)/.dev ## install the development tools, then run the suite
	$(PY) -m pytest

lint: $(VENV)/.dev ## ruff and flake8-async
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m flake8 .

types: $(VENV)/.dev ## mypy --strict
	$(PY) -m mypy $(PACKAGES) tests $$(ls -d examples bench 2>/dev/null)

check: lint types test ## what CI runs

torture: $(VENV)/.dev ## the long tests that `make test` leaves out
	$(PY) -m pytest -m torture --timeout=3600

test-agents: $(VENV)/.dev $(AGENTS)/.installed ## install real coding agents (1.1 GB) and drive them, without a network
	$(ALONE) $(PY) -m pytest -m agents --timeout=600 tests/agents

# Bytecode first, as pip makes it of all that it installs: else a start would also measure the compiler.
bench: $(VENV)/.dev ## measure
	@$(PY) -m compileall -q $(PACKAGES)
	$(PY) -m bench

demo: install ## a guided tour in the terminal
	$(PY) -m examples.demo

lock: ## compile pyproject.toml into requirements/*.txt (needs uv)
	$(COMPILE) requirements/build.in -o requirements/build.txt
	$(COMPILE) pyproject.toml -o requirements/run.txt
	$(COMPILE) -c requirements/run.txt --extra dev pyproject.toml -o requirements/dev.txt

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find $(PACKAGES) tests -name __pycache__ -prune -exec rm -rf {} +

# The stamps: removed first and touched last, so a failed install leaves none and is done again.
# One .venv has one set of packages (run within dev, by the -c of `lock`), so the second never undoes the first.
$(VENV)/.run: pyproject.toml requirements/build.txt requirements/run.txt
	@rm -f $@
	@sh requirements/install.sh '$(PYTHON)' '$(VENV)' requirements/build.txt requirements/run.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@rm -f $@
	@sh requirements/install.sh '$(PYTHON)' '$(VENV)' requirements/dev.txt
	@touch $@

$(AGENTS)/.installed: tests/agents/package.json tests/agents/package-lock.json
	@rm -f $@ && mkdir -p $(AGENTS) && cp tests/agents/package.json tests/agents/package-lock.json $(AGENTS)
	cd $(AGENTS) && npm ci --no-audit --no-fund
	@touch $@

.PHONY: help install run test lint types check torture test-agents bench demo lock clean
