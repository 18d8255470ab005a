# make run            the whole chain on the demo profile (params.yaml)
# make run PROFILE=smoke   the same in minutes, tiny, without claims; runs in its own workspace
# make test           linters, types, import contracts and tests
SHELL := /bin/bash
PROFILE ?= demo
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export GX_ANALYTICS_ENABLED := false
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: run test check
run: .venv/.installed
ifeq ($(PROFILE),demo)
	@start=$$SECONDS; dvc repro dvc.yaml && zreward summary && \
	  echo "took $$(( (SECONDS - start) / 60 )) min $$(( (SECONDS - start) % 60 )) s"
else
	@start=$$SECONDS; cd "$$(zreward workspace $(PROFILE))" && dvc repro dvc.yaml && \
	  zreward summary && echo "took $$(( (SECONDS - start) / 60 )) min $$(( (SECONDS - start) % 60 )) s"
endif

test: .venv/.installed check
	pytest

check: .venv/.installed
	ruff check zreward_core tests
	ruff format --check zreward_core tests
	mypy
	lint-imports

.venv/.installed: pyproject.toml constraints.txt
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
