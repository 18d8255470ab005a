# make run                 run the whole pipeline on the demo profile (params.yaml)
# make run PROFILE=smoke   the same on a tiny profile: minutes, no claims, its own workspace
# make ui                  start Dagster and MLflow on this machine; Ctrl-C stops them; PROFILE=smoke
#                          ZREWARD_UI_TOKEN in the environment: the pages ask for it
# make limits              measure latencies; KILLS=30 adds kill -9 trials, FIRST=10 skips ten
# make bench               run every method with every seed, then write the tables: hours
# make bench-speed         ratios of speed into docs/speed.md: minutes, on an idle machine
# make bench-ingest        time ingest and validate on 10 M ratings against DuckDB; BENCH_ROWS=N
# make test                linters, types, import contracts, tests; JOBS=N processes
# make docs                build the documentation site into build/site
# make fuzz                the property tests of tests/fuzz with new inputs for FUZZ_MINUTES=60
# make test-long           tests that run real processes for many minutes
SHELL := /bin/bash
PROFILE ?= demo
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export GX_ANALYTICS_ENABLED := false
export HF_HUB_DISABLE_TELEMETRY := 1

TOOK = echo "took $$(( (SECONDS - start) / 60 )) min $$(( (SECONDS - start) % 60 )) s"

.PHONY: run ui limits bench bench-speed bench-ingest test docs fuzz test-long check
run: .venv/.installed
	@zreward run $(PROFILE)

# the assignment fails for an unknown profile, so that nothing runs in the repository instead
IN_WORKSPACE = folder="$$( [ '$(PROFILE)' = demo ] && echo . || zreward workspace '$(PROFILE)' )" && \
  cd "$$folder"
KILLS ?= 0
FIRST ?= 0
ui: .venv/.installed
	@exec zreward ui $(PROFILE)

limits: PROFILE := smoke
limits: .venv/.installed
	@$(IN_WORKSPACE) && zreward repro dvc.yaml && python $(CURDIR)/benchmarks/limits.py --kills $(KILLS) --first $(FIRST)

# DVC sees the comparison from its first run on; `dvc status` before it lists the pipeline alone
bench: .venv/.installed
	@start=$$SECONDS; $(IN_WORKSPACE) && cp benchmarks/stages.yaml benchmarks/dvc.yaml && \
	  zreward repro benchmarks/dvc.yaml && $(TOOK)

bench-speed: .venv/.installed
	OMP_NUM_THREADS=1 python -W ignore -m benchmarks.speed

BENCH_ROWS ?= 10000000
bench-ingest: .venv/.installed
	python benchmarks/ingest.py --rows $(BENCH_ROWS)

JOBS ?= 2
test: .venv/.installed check
	pytest -m "not long" -n $(JOBS) --dist loadfile --no-loadscope-reorder

# mkdocs counts a warning as an error, but not with --quiet
docs: .venv/.installed
	NO_MKDOCS_2_WARNING=1 mkdocs build
	@echo 'build/site/index.html; with search: python -m http.server --directory build/site'

FUZZ_MINUTES ?= 60
FUZZ_LOG := .zreward/fuzz.log
fuzz: .venv/.installed
	@mkdir -p $(dir $(FUZZ_LOG)); : > $(FUZZ_LOG); set -o pipefail; \
	  end=$$(( SECONDS + 60 * $(FUZZ_MINUTES) )); while (( SECONDS < end )); do \
	  FUZZ_FACTOR=5 pytest tests/fuzz -x -q | tee -a $(FUZZ_LOG) || exit 1; done; \
	  awk '/^tried/ {inputs += $$2; rounds += 1} END {print inputs, "inputs in", rounds, "rounds"}' \
	  $(FUZZ_LOG)

test-long: .venv/.installed
	pytest -m long

check: .venv/.installed
	ruff check zreward_core pipelines benchmarks docs/site.py tests
	ruff format --check zreward_core pipelines benchmarks docs/site.py tests
	mypy
	lint-imports

.venv/.installed: pyproject.toml constraints.txt
	@echo 'installing into .venv: network, about 3 minutes, 2.5 GB of disk'
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
