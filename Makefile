# Every target makes its environment first. PYTHON is the interpreter it is made from, VENV where it lies.
PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
STAMP := $(VENV)/stamp

.PHONY: demo test check bench calibrate hostile mutants kills pictures clean

demo: $(STAMP)
	$(BIN)/fgbench demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m pytest --benchmark-enable --benchmark-warmup=on \
		--benchmark-columns=median,iqr,rounds --benchmark-sort=min tests/benchmarks/bench_*.py

# About a quarter of an hour of one core; parts that are finished under the same code are not repeated.
calibrate: $(STAMP)
	$(BIN)/python -m fgbench.measurement.calibrate --out analysis/reproduction

# Every bad input and every estimator that misbehaves, some minutes; the tests run one of thirty.
hostile: $(STAMP)
	FGBENCH_EVERY_CASE=1 $(BIN)/python -m pytest -q tests/end_to_end/test_hostile.py tests/reporting/figures/test_wrong_types.py

# A sample of 200 small edits of the numerical core, each tried against its tests: hours of one core.
mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[mutants]'
	$(BIN)/python -m tests.mutants $(MUTANTS)

# 200 kills and signals at random moments of small commands: about 20 minutes of one core.
kills: $(STAMP)
	$(BIN)/python -m tests.makers.kills $(KILLS)

# Every committed picture, drawn again from the committed records: two minutes of one core.
pictures: $(STAMP)
	$(BIN)/python analysis/draw_all.py

# Tests and parts of a calibration run side by side, so each has one thread; micro-benchmarks are
# comparable with one.
test bench calibrate hostile mutants kills pictures: export OMP_NUM_THREADS = 1

clean:
	rm -rf .venv .ci/env build dist *.egg-info .asv .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,bench,report]'
	touch $@
