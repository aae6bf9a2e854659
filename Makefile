# make run · make test · make test-all · make bench · make bench-gpu · make docs: each sets up what it needs, from a bare clone.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test test-all test-rest peers lint types bench bench-gpu docs clean

run: $(READY)
	$(BIN)/infohebb run quickstart --out runs
	@printf 'report: '; $(BIN)/infohebb report runs --out runs/report.html

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses $(JOBS) --dist worksteal -rs -m 'not slow'

# All tests, with those that `make test` skips: slow ones, and those of packages that must work with ours.
test-all: lint types peers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses $(JOBS) --dist worksteal

# What `make test` leaves out.
test-rest: peers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses $(JOBS) --dist worksteal -m 'peers or slow'

# The import fails here if a package is missing, so that no test of it is skipped.
peers: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[peers]'
	$(BIN)/python -c 'import accelerate, lightning'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright

bench: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python benchmarks/step.py
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python benchmarks/conv.py
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python benchmarks/learner.py
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python benchmarks/online.py
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python benchmarks/streams.py
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python benchmarks/corinfomax.py
	$(BIN)/python benchmarks/window.py
	$(BIN)/python benchmarks/leaky.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/startup.py

bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py

docs: $(READY)
	$(BIN)/python docs/tables.py

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .ruff_cache
