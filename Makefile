# Every target makes its environment first. PYTHON is the interpreter it is made from, VENV where it lies.
PYTHON ?= python3
VENV ?= .venv
# Another version of torch than the pinned one: make test TORCH=2.11.0 VENV=.venv-2.11. Networks of others are
# left out, because torchvision pins torch.
TORCH ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/stamp
PINNED := $(shell sed -n 's/^torch==//p' constraints.txt)
OTHER := $(filter-out $(PINNED),$(TORCH))
EXTRAS := dev,bench,report,tune$(if $(OTHER),,,zoo)

.PHONY: help demo test test-all check bench asv-smoke asv-site calibrate hostile mutants kills plants pictures gate clean

demo: $(STAMP)
	$(BIN)/fgbench demo

help:
	@echo "make demo       the demo of the README"
	@echo "make check      ruff, mypy and lint-imports: what .ci/run checks first"
	@echo "make test       tests and doctests, but those marked slow; aim: 5 minutes of 2 quiet cores"
	@echo "make test-all   all of them: what .ci/run tests"
	@echo "make bench      every hot kernel beside its naive twin, with the ratio; BENCH=... are options of pytest-benchmark"
	@echo "make asv-smoke  HEAD~1 against HEAD by asv; two to five minutes"
	@echo "make asv-site   asv's pages of tracked numbers, which need no network, in .asv/html"
	@echo "make calibrate  every interval and test, simulated; half an hour of one core"
	@echo "make hostile    every bad input and misbehaving estimator; the tests run one of thirty"
	@echo "make kills      200 kills and signals at random moments; the tests run six"
	@echo "make mutants    200 small edits of the numerical core, each tried against its tests; hours"
	@echo "make plants     planted commits, and what the gate says of each"
	@echo "make pictures   every committed picture, drawn again"
	@echo "make gate       compare two revisions: make gate FROM=main TO=HEAD, or BASE=main for where TO left it"
	@echo "make clean      remove environments, caches and build outputs"

# Each worker takes half of the tests, in order, so that neighbours share what their fixtures made; the one
# that is ready first takes from the other. Compiled, the package is half a second faster in each of the many
# processes that tests start.
test: $(STAMP)
	$(BIN)/python -m compileall -q fgbench
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m compileall -q fgbench
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The C library hands freed memory back to the system or keeps it, as the history of the process has it, and
# a step that gets new pages takes up to 1.4 times as long. Here it keeps them.
bench: export MALLOC_TRIM_THRESHOLD_ = 2000000000
bench: export MALLOC_MMAP_THRESHOLD_ = 2000000000
bench: $(STAMP)
	$(BIN)/python -m pytest --benchmark-enable --benchmark-warmup=on --benchmark-timer=time.process_time \
		--benchmark-columns=median,iqr,rounds --benchmark-sort=min $(BENCH) tests/benchmarks/bench_*.py

# HEAD~1 against HEAD, as `asv machine --yes` and `asv continuous HEAD~1 HEAD` do, after a look at what these
# need. The first call builds an environment with torch; BASE, HEAD and TIER are others.
BASE ?= HEAD~1
HEAD ?= HEAD
TIER ?= smoke
asv-smoke: $(STAMP)
	$(BIN)/fgbench suites run $(BASE) $(HEAD) --tier $(TIER)

# Results of asv run in .asv/results; in a clone without them the committed ones.
asv-site: $(STAMP)
	$(BIN)/python suites/pages/publish.py $(RESULTS)

# About half an hour of one core; parts that are finished under the same code are not repeated.
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

# Planted commits in a scratch clone, and what the gate says of each: about half an hour of two cores.
plants: $(STAMP)
	$(BIN)/python -m tests.makers.planted $(PLANTS)

# Every committed picture, drawn again from the committed records: two minutes of one core.
pictures: $(STAMP)
	$(BIN)/python analysis/draw_all.py

# Two revisions of this repository; TABLE names a file for the table in Markdown. With BASE, a branch, the first is
# the commit where TO left it: what was done on the branch since then is no part of the difference.
FROM ?= main
TO ?= HEAD
BASE ?=
TABLE ?=
gate: $(STAMP)
	from=$(if $(BASE),"$$(git merge-base $(BASE) $(TO))",$(FROM)) && \
	$(BIN)/fgbench gate "$$from" $(TO)$(if $(TABLE), --markdown >$(TABLE))

# Tests and parts of a calibration run side by side, so each has one thread; micro-benchmarks are
# comparable with one.
test test-all bench calibrate hostile mutants kills plants pictures: export OMP_NUM_THREADS = 1

clean:
	rm -rf .venv .ci/env build dist *.egg-info .asv .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	sed 's/^torch==.*/torch==$(or $(OTHER),$(PINNED))/' constraints.txt >$(VENV)/constraints.txt
	$(BIN)/python -m pip install -c $(VENV)/constraints.txt -e '.[$(EXTRAS)]'
	touch $@
