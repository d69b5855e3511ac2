# humanbody: every command sets itself up in .venv from python3.11 and pip alone, and prints what it wrote.
SHELL := /bin/bash
PY ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.humanbody-installed
export HUMANBODY_SAMPLES ?= $(wildcard $(abspath ../shared/data/samples))
export JUPYTER_PLATFORM_DIRS = 1
export MPLBACKEND = Agg
THREADS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 2 ] && echo $$(( n / 2 )) || echo 2)

.PHONY: help setup demo test check export lab run bench fuzz

help:
	@echo "make demo               the main job: 2D keypoints -> 3D, 6D, SMPL -> ergonomic comparison, figures/demo/report.html"
	@echo "make test               everything the project promises, on synthetic data"
	@echo "make check              package = notebooks, import rule, joint literals, parameters cells"
	@echo "make lab                JupyterLab on nbs/"
	@echo "make run NB=nbs/runs/x.ipynb PARAMS=nbs/runs/params/y.yaml [SET='smoke=true seed=3']"
	@echo "make bench | make fuzz  speed against references | property-based fuzzing of the readers"

setup: $(STAMP)

$(STAMP): settings.ini setup.py
	@t=$$(date +%s); echo "setup: installing into $(VENV) (about 2 GB; PIP_* variables are honoured)"; \
	$(PY) -m venv $(VENV) && $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]' && \
	touch $(STAMP) && echo "setup: $(VENV) ready in $$(( $$(date +%s) - t )) s"

demo: setup
	@$(BIN)/python -m humanbody.runner demo --out figures/demo

run: setup
	@test -n "$(NB)" || { echo "make run: say which notebook, e.g. make run NB=nbs/runs/make_synthetic.ipynb PARAMS=nbs/runs/params/smoke_make_synthetic.yaml"; exit 2; }
	@$(BIN)/python -m humanbody.runner run $(NB) $(if $(PARAMS),--params $(PARAMS)) $(foreach s,$(SET),--set $(s))

check: setup
	@$(BIN)/python tests/check_house.py

export: setup
	@$(BIN)/nbdev_export && $(BIN)/nbdev_clean && echo "export: wrote humanbody/*.py from nbs/*.ipynb"

test: setup
	@$(BIN)/python tests/run_all.py

lab: setup
	@$(BIN)/jupyter lab --notebook-dir=nbs

bench: setup
	@$(BIN)/python tests/bench.py

fuzz: setup
	@$(BIN)/python tests/fuzz_readers.py --atheris $(or $(HUMANBODY_FUZZ_ATHERIS),200)
