# From a fresh clone to a board's files or a full test run in one command: both install what they need, pinned.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

VENV ?= .venv
TARGET ?= esp32s3-nopsram
MODEL ?= models/computer
OUT ?= build/$(notdir $(MODEL))
# Two processes and no more than four: each may hold TensorFlow and PyTorch at once.
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadgroup
PYTHON ?= $(shell command -v python3.11 || echo python3)

BIN := $(VENV)/bin
STAMPS := $(VENV)/.edgewake
C_TESTS := build/ctest
C_FUZZ := build/fuzz
# Of each fuzzing program; several run at once.
FUZZ_SECONDS ?= 8
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A released model is built, to the same bytes, without the packages of any extra.
EXTRAS_build :=
EXTRAS_test := train,teachers,convert,report,synthesis,corpora,mic,flash,idf,ui,cluster,docs,dev
NEEDS_build := cc venv
NEEDS_test := cc c++ venv
# Tests are skipped without these.
WANTS_test := portaudio espeak zsh fish chromium clang xtensa

# What the installed package is made from besides its Python files, which an editable install reads in place.
SOURCES := pyproject.toml constraints.txt $(wildcard CMakeLists.txt) \
	$(shell find firmware/esp32s3/components/edgewake -name '*.[ch]' -not -path '*/generated/*')
C_FILES = $(shell find firmware tests benchmarks \( -name '*.[ch]' -o -name '*.cc' -o -name '*.cpp' -o -name '*.hpp' \) \
	-not -path '*/generated/*' -not -path '*/build/*' -not -path '*/managed_components/*')

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: $(STAMPS)/build ## Convert, check and write the ESP-IDF project of MODEL into OUT
	$(BIN)/edgewake build --target $(TARGET) --model $(MODEL) --out $(OUT)

.PHONY: test
test: lint ctest fuzz pytest ## Everything: lint, types, the C core under sanitizers and a fuzzer, then all Python tests

.PHONY: pytest
pytest: $(STAMPS)/test ## Python tests alone; PYTEST_ARGS is passed on
	$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: test-xtensa
test-xtensa: $(STAMPS)/test ## Of the Python tests, those that run the C code on an emulated Xtensa
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/xtensa

.PHONY: ctest
ctest: $(STAMPS)/test ## Tests of the C core, under AddressSanitizer and UndefinedBehaviorSanitizer
	$(BIN)/cmake -S . -B $(C_TESTS) -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
		-DEDGEWAKE_TESTS=ON -DEDGEWAKE_SANITIZE=ON -DPython3_EXECUTABLE=$(abspath $(BIN))/python
	$(BIN)/cmake --build $(C_TESTS)
	$(BIN)/ctest --test-dir $(C_TESTS) --output-on-failure

.PHONY: fuzz
fuzz: $(STAMPS)/test ## Fuzz the C core, FUZZ_SECONDS for each program
	@if $(CHECK_clang) > /dev/null 2>&1; then set -x; \
	$(BIN)/cmake -S . -B $(C_FUZZ) -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang \
		-DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DPython3_EXECUTABLE=$(abspath $(BIN))/python \
		-DEDGEWAKE_FUZZ=ON -DEDGEWAKE_SANITIZE=ON -DEDGEWAKE_FUZZ_SECONDS=$(FUZZ_SECONDS); \
	$(BIN)/cmake --build $(C_FUZZ); \
	$(BIN)/ctest --test-dir $(C_FUZZ) --output-on-failure --parallel $$(nproc); \
	else echo 'the C core is not fuzzed: not installed: $(PACKAGE_clang)' >&2; fi

.PHONY: lint lint-python lint-format lint-types lint-imports lint-c
lint: lint-python lint-format lint-types lint-imports lint-c ## Lint, formatting, types and import layers
lint-python: $(STAMPS)/test
	$(BIN)/ruff check .
lint-format: $(STAMPS)/test
	$(BIN)/ruff format --check .
lint-types: $(STAMPS)/test
	$(BIN)/mypy -p edgewake
lint-imports: $(STAMPS)/test
	$(BIN)/lint-imports
lint-c: $(STAMPS)/test
	@echo '$(BIN)/clang-format --dry-run -Werror # $(words $(C_FILES)) files'
	@$(BIN)/clang-format --dry-run -Werror $(C_FILES)

.PHONY: format
format: $(STAMPS)/test ## Rewrite Python and C as the lint wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(C_FILES)

.PHONY: docs
docs: $(STAMPS)/test ## The documentation as a site in build/site, strictly: a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

.PHONY: bench
bench: $(STAMPS)/test ## Measure what benchmarks/README.md describes
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: calibration
calibration: $(STAMPS)/test ## Remake calibration/ from its seed
	$(BIN)/python calibration/make.py

.PHONY: constraints
constraints: $(STAMPS)/test ## Rewrite constraints.txt from what is installed
	@{ grep '^#' constraints.txt; \
		$(PIP) freeze --all --exclude-editable \
			| awk -F == '{gsub(/[_.]+/, "-", $$1); print tolower($$1) "==" $$2}' | sort; } > constraints.new
	@if cmp -s constraints.new constraints.txt; then rm constraints.new; else mv constraints.new constraints.txt; fi

.PHONY: clean
clean: ## Remove what was built; installed packages stay
	rm -rf build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find toolchain tests calibration benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove the environment as well
	rm -rf $(VENV)

# Progress on the first install, which takes minutes; silence where nobody watches or little is left to do.
QUIET = $(if $(CI)$(wildcard $@),--quiet)

# pip is pinned first, since older ones cannot pin what builds the wheel (--build-constraint).
$(STAMPS)/%: $(SOURCES) | system-%
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "$(PYTHON) is not Python 3.11, which edgewake's pinned packages need: make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(QUIET) -c constraints.txt pip
	$(PIP) install $(QUIET) -c constraints.txt --build-constraint constraints.txt -e '.$(if $(EXTRAS_$*),[$(EXTRAS_$*)])'
	@mkdir -p $(STAMPS) && touch $@ $(if $(filter test,$*),$(STAMPS)/build)

# Debian's packages for what is missing: installed when we may, named when we may not.
CHECK_cc := command -v cc
CHECK_c++ := command -v c++
CHECK_venv := $(PYTHON) -c 'import ensurepip, venv'
PACKAGE_cc := gcc libc6-dev
PACKAGE_c++ := g++
PACKAGE_venv := python3-venv
CHECK_portaudio := PATH=$$PATH:/sbin ldconfig -p | grep libportaudio.so.2
CHECK_espeak := command -v espeak-ng
CHECK_zsh := command -v zsh
CHECK_fish := command -v fish
CHECK_chromium := { command -v chromium || command -v chromium-browser; }
CHECK_xtensa := { command -v xtensa-lx106-elf-gcc && command -v qemu-system-xtensa; }
CHECK_clang := echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' | \
	clang -fsanitize=fuzzer,address -x c - -o /dev/null
PACKAGE_portaudio := libportaudio2
PACKAGE_espeak := espeak-ng
PACKAGE_zsh := zsh
PACKAGE_fish := fish
PACKAGE_chromium := chromium
PACKAGE_xtensa := gcc-xtensa-lx106 binutils-xtensa-lx106 qemu-system-misc
PACKAGE_clang := clang libclang-rt-dev
.PHONY: system-build system-test
system-build system-test: system-%:
	@missing="$(foreach need,$(NEEDS_$*),$$($(CHECK_$(need)) > /dev/null 2>&1 || echo '$(PACKAGE_$(need))'))"; \
	wanted="$(foreach want,$(WANTS_$*),$$($(CHECK_$(want)) > /dev/null 2>&1 || echo '$(PACKAGE_$(want))'))"; \
	get() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$$@"; }; \
	if [ -z "$${missing// /}$${wanted// /}" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && get $$missing $$wanted || get $$missing; \
	elif [ -z "$${missing// /}" ]; then echo "not installed: $$wanted; some tests are skipped" >&2; \
	else echo "not installed: $$missing; as root: apt-get install $$missing" >&2; exit 1; fi
