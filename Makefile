# Thin: every target is a few commands, and each does its own set-up into .venv.
# A Python of your own choice: `make run PYTHON=python3.12`.

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)

# As in an activated environment: a job that says `python` or `queuectl` gets ours.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run lab test soak bench clean browser
.DEFAULT_GOAL := help

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1 — /p' Makefile

run: $(VENV)/.ready-notebook  ## execute the quickstart notebook in a real kernel and print what it says
	@$(BIN)/python notebooks/execute.py notebooks/quickstart.ipynb

lab: $(VENV)/.ready-lab  ## open the notebooks in JupyterLab
	$(BIN)/jupyter-lab $$([ "$$(id -u)" != 0 ] || echo --allow-root) notebooks

test: $(VENV)/.ready-test,dev .kernels/.ready browser  ## all that CI checks: format, lint, types, layers, tests, notebooks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --cov=queuectl_magics --cov-config=pyproject.toml --doctest-modules \
		--nbval --nbval-cell-timeout=120 --nbval-current-env --nbval-sanitize-with=tests/nbval_sanitize.cfg \
		queuectl_magics tests notebooks

soak: $(VENV)/.ready-test,dev .kernels/.ready  ## ten minutes of killing everything at random, and the long forms of the store's tests
	QUEUECTL_SOAK_S=600 QUEUECTL_SOAK_RESTARTS=40 HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -s --timeout=3600 \
		tests/test_soak.py tests/test_store_machine.py tests/test_store_powercut.py tests/test_store_repair.py \
		tests/test_kernels.py::test_jobs_run_exactly_once_however_often_their_kernel_is_restarted

bench: $(VENV)/.ready-test,dev  ## measure, and print the figures
	@$(BIN)/python benchmarks/bench.py

clean:  ## remove what tests and builds left behind (.venv and the queues stay)
	rm -rf build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache
	find queuectl_magics tests notebooks benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# ── set-up: .venv, then the package with the extras that the stamp is named after ────────────────

$(VENV)/.ready-%: pyproject.toml $(VENV)/pyvenv.cfg
	@echo "Installing queuectl_magics[$*] into $(VENV) …"
	@$(BIN)/python -m pip install -qq --editable '.[$*]'
	@touch $@

$(VENV)/pyvenv.cfg:
	@for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
		found=$$python; \
		"$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || continue; \
		echo "Making $(VENV) with $$("$$python" -V) …"; \
		"$$python" -m venv $(VENV) && exit 0; \
		rm -rf $(VENV); \
		exit 1; \
	done; \
	if [ -n "$$found" ]; then \
		echo "$$found cannot make a virtual environment: it lacks venv or ensurepip." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	else \
		echo "No Python 3.11 or newer among: $(PYTHONS)." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 …" >&2; \
	fi; \
	exit 1

# Other ipykernels, for the tests: each in a folder that comes first on the path of a kernel.
.kernels/.ready: Makefile $(VENV)/pyvenv.cfg
	@echo "Installing other versions of ipykernel into .kernels …"
	@rm -rf .kernels
	@$(BIN)/python -m pip install -qq --no-deps --target .kernels/6 'ipykernel>=6.29,<7' nest-asyncio psutil
	@for version in 7.0.1 7.1.0; do $(BIN)/python -m pip install -qq --no-deps \
		--target .kernels/$$version ipykernel==$$version nest-asyncio psutil || exit 1; done
	@touch $@

browser:
	@for name in chromium chromium-browser google-chrome; do \
		command -v $$name >/dev/null 2>&1 && exit 0; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "Installing Chromium for the tests of the live table …"; \
		apt-get update -qq </dev/null; DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
			-o DPkg::Lock::Timeout=300 --no-install-recommends chromium fonts-dejavu-core </dev/null >/dev/null; \
	else \
		echo "The tests of the live table need Chromium: put chromium, chromium-browser or" >&2; \
		echo "google-chrome on PATH. On Debian: sudo apt-get install chromium fonts-dejavu-core" >&2; \
		exit 1; \
	fi
