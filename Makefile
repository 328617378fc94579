# Every target first sets up what it needs: .venv holds everything, and nothing is installed outside of it.
PYTHON ?= python3
CONFIG ?= examples/home/edgeft.toml
TESTARGS ?=
GEMMA ?=

VENV := .venv
BIN := $(VENV)/bin
# Another way to compile llama.cpp is another setup.
READY := $(VENV)/.stamp-setup$(if $(CMAKE_ARGS),-$(firstword $(shell printf '%s' '$(CMAKE_ARGS)' | cksum)))
INSTALL := $(BIN)/python -P -m pip install -c constraints.txt
COMPILE := CMAKE_ARGS="$$($(BIN)/python scripts/llamacpp_options.py) $(CMAKE_ARGS)" $(INSTALL)
RECOMPILE := $(COMPILE) --no-cache-dir --force-reinstall --no-deps llama-cpp-python
TRY := $(BIN)/python -P -m edgeft.llamacpp.trial

# `make -j train quantize` must still train before it quantizes.
.NOTPARALLEL:
.PHONY: help setup train quantize parity chat test test-oracle false-alarms fault-table check clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  CONFIG=FILE     the run (default: $(CONFIG))"
	@echo "  PYTHON=PROGRAM  the Python that .venv is made with (default: $(PYTHON))"
	@echo "  TESTARGS=ARGS   passed to pytest, such as TESTARGS='-k merge'"
	@echo "  GEMMA=1         take Gemma 3 270M too, in test and false-alarms (253 MB, fetched once)"
	@echo "  CMAKE_ARGS=ARGS how llama.cpp is compiled in the setup, such as CMAKE_ARGS=-DGGML_CUDA=on for a GPU"

setup: $(READY) ## check this machine and install everything into .venv

$(READY): pyproject.toml constraints.txt
	$(PYTHON) scripts/check_machine.py
	$(PYTHON) -P -m venv $(VENV)
	@# The pinned torch comes first, so that nothing that needs a torch chooses another one.
	$(INSTALL) torch
	@echo "Compiling llama.cpp once, about 3 minutes. pip keeps the result for the next time."
	@# What pip keeps may have been compiled in another way, or for another processor.
	$(if $(CMAKE_ARGS),$(RECOMPILE))
	$(COMPILE) -e '.[train,dev]'
	@$(TRY) $(if $(CMAKE_ARGS),,|| { echo "The llama.cpp that pip kept does not run here: compiling it again."; $(RECOMPILE) && $(TRY); })
	@touch $@

train: $(READY) ## fine-tune the model of CONFIG
	$(BIN)/edgeft run train -c $(CONFIG)

quantize: $(READY) ## make the small GGUF files and show how near they are to the trained model
	$(BIN)/edgeft run quantize parity eval -c $(CONFIG)

parity: $(READY) ## compare the GGUF files with the trained model, again
	$(BIN)/edgeft run parity --force -c $(CONFIG)

chat: $(READY) ## talk to the quantized model
	$(BIN)/edgeft chat -c $(CONFIG)

test: $(READY) ## run the tests
	$(if $(GEMMA),EDGEFT_GEMMA=$(GEMMA)) $(BIN)/python -P -m pytest -q -n auto --dist loadfile $(TESTARGS)

test-oracle: $(READY) ## hold every family, option and vocabulary to llama.cpp's own, as tables
	EDGEFT_WHOLE_MATRIX=1 $(BIN)/python -P -m pytest -q tests/convert/test_families.py tests/convert/test_oracle.py \
		tests/convert/test_vocabularies.py tests/convert/test_quantized.py $(TESTARGS)

false-alarms: $(READY) ## hold correct exports of every family, and of real models, to their references, as tables
	$(if $(GEMMA),EDGEFT_GEMMA=$(GEMMA)) EDGEFT_WHOLE_MATRIX=1 $(BIN)/python -P -m pytest -q -s \
		tests/parity/test_false_alarms.py tests/parity/test_real_exports.py $(TESTARGS)

fault-table: $(READY) ## write docs/faults.md: every fault, the rung that finds it and what is said of it
	EDGEFT_FAULT_TABLE=1 $(BIN)/python -P -m pytest -q tests/parity/test_fault_matrix.py $(TESTARGS)

check: $(READY) ## run the linter, the formatter's check and the type checker
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean: ## remove runs and caches; keep .venv and models/base
	rm -rf models/runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . \( -path ./$(VENV) -o -path ./.git \) -prune -o -type d \( -name __pycache__ -o -name '*.egg-info' \) \
		-prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv too
	rm -rf $(VENV)
