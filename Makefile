# Everything here can be repeated; the environment is rebuilt only when pyproject.toml changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.dev
PEERS := $(VENV)/.peers
CPU_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: help install quickstart test slow check docs bench gpu tree clean

help:
	@echo "make quickstart  install, then train, attack and tabulate a small matrix (a few minutes)"
	@echo "make test        install, then run the fast tests"
	@echo "make slow        install, then run the tests that train networks"
	@echo "make check       install, then run ruff, mypy and import-linter"
	@echo "make bench       install, then time segbench beside what users would use instead"
	@echo "make gpu         install, then measure one GPU (meant for eight minutes)"
	@echo "make docs        install, then build the documentation site in build/site"
	@echo "make install     the environment alone, in $(VENV)"

install: $(STAMP)
	@echo "==> segbench is installed in $(VENV)"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "segbench needs Python 3.11 or newer; $(PYTHON) is older: name another with make PYTHON=python3.12"; exit 1; }
	@echo "==> creating $(VENV) and installing segbench with its dependencies (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(call cpu_build)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[tables]'
	@touch $@

# The usual wheels of torch for Linux bring 6 GB of CUDA, which only a machine with an NVIDIA driver can use.
# `make CPU_INDEX=` takes them anyhow. Nothing but that index is asked: pip's other sources may hold one of the two in a
# build that does not fit the other.
define cpu_build
if [ -n "$(CPU_INDEX)" ] && [ "$$(uname -s)" = Linux ] && [ ! -e /proc/driver/nvidia/version ] \
    && ! command -v nvidia-smi >/dev/null 2>&1; then \
  echo "==> no NVIDIA driver is here: taking the CPU build of torch from $(CPU_INDEX)"; \
  $(BIN)/python -m pip --isolated install --quiet --disable-pip-version-check --retries 0 --timeout 20 \
    --index-url $(CPU_INDEX) 'torch>=2.6' 'torchvision>=0.21' 2>/dev/null \
    || echo "==> that index does not offer it: taking the usual build of torch"; \
fi
endef

$(DEV): $(STAMP)
	@echo "==> installing what tests and checks need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Libraries that tests compare ours with; their own pins of other packages are out of date, so those are left out. Of the
# trackers, mlflow and trackio would put older releases of pyarrow and pillow in place; their tests skip without them.
$(PEERS): $(DEV)
	@echo "==> installing the libraries that attacks are compared with, and a tracker"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchattacks adv-lib
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check wandb
	@touch $@

quickstart: $(STAMP)
	@echo "==> segbench run quickstart"
	@$(BIN)/segbench run quickstart

test: $(DEV)
	@echo "==> fast tests"
	@$(BIN)/python -m pytest -n auto

slow: $(PEERS)
	@echo "==> slow tests"
	@$(BIN)/python -m pytest -m slow -n auto -rs

# The tree as it is installed, of links, for tools that do not follow the mapping in pyproject.toml.
tree:
	@rm -rf build/tree && mkdir -p build/tree/segbench
	@for each in segbench/*; do ln -s ../../../$$each build/tree/segbench/; done
	@for each in attacks defenses model_zoo reports; do ln -s ../../../$$each build/tree/segbench/$$each; done

check: $(DEV) tree
	@echo "==> ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "==> mypy --strict"
	@$(BIN)/mypy
	@echo "==> import-linter"
	@cd build/tree && ../../$(BIN)/lint-imports --config ../../pyproject.toml --no-cache

# Warnings are errors. The variable hides a notice about another site builder.
docs: $(DEV) tree
	@echo "==> mkdocs build"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Figures of processor time; run it on an idle machine.
bench: $(PEERS)
	@echo "==> evaluation beside a bare loop"
	@$(BIN)/python benchmarks/eval_overhead.py --images 12 --size 384
	@$(BIN)/python benchmarks/eval_overhead.py --images 500 --size 96
	@echo "==> attacks beside the passes that they need, and beside other libraries"
	@$(BIN)/python benchmarks/attack_time.py
	@echo "==> training steps beside a plain one and beside the published loop"
	@$(BIN)/python benchmarks/training_step.py
	@echo "==> the paper's tables as one plan"
	@$(BIN)/python benchmarks/one_plan.py
	@echo "==> stores of many records"
	@$(BIN)/python benchmarks/records.py 1000 10000 100000
	@echo "==> plan --estimate beside the truth"
	@$(BIN)/python benchmarks/estimate.py quickstart
	@echo "==> engines with two workers"
	@$(BIN)/python benchmarks/engines.py --engines local
	@echo "==> beside another busy process"
	@$(BIN)/python benchmarks/contended.py

# Writes one page; a machine without a GPU says so.
gpu: $(DEV)
	@echo "==> one GPU"
	@$(BIN)/python benchmarks/gpu.py --out docs/results/gpu.md

clean:
	rm -rf $(VENV) build *.egg-info
