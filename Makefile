# Everything runs in .venv, which is made at the first use and made again when the dependencies change.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Processes that share the tests; many tests wait for a broker or a clock.
WORKERS ?= 4
.DEFAULT_GOAL := help
.PHONY: help report text test test-all lint bench soak licences lab docs clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# What each verb needs of pyproject.toml's extras: a report needs no Spark.
EXTRAS_lab  := lab
EXTRAS_text := lab,text,http
EXTRAS_docs := lab,docs
EXTRAS_all  := lab,metrics,text,http,kafka,cluster,signing,docs,test,lint

$(VENV)/ready-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "xedge needs Python 3.11 or newer: make PYTHON=python3.12")'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { echo "no venv module: install python3-venv, or use environment.yml with conda"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[$(EXTRAS_$*)]'
	@touch $@

report: $(VENV)/ready-lab ## build the models, measure edge against cloud; prints the page to open
	@$(BIN)/xedge report 02_edge_vs_cloud -f notebooks/parameters/edge_vs_cloud.yaml || [ $$? -eq 3 ]

text: $(VENV)/ready-text ## train, register and serve the text models; print a first answer
	@$(BIN)/xedge report 09_train_text
	@$(BIN)/python -m xedge.text.first_answer

test: $(VENV)/ready-all ## run all tests but the long ones
	$(BIN)/python -m pytest -n $(WORKERS)

# Some repeat a thing a thousand times or for a minute: a tenth of it here, all of it with XEDGE_TEST_COUNTS=1.
test-all: $(VENV)/ready-all ## run the long tests: nbval, coverage, fuzzing, faults, netem
	$(BIN)/python -m pytest -n $(WORKERS) -m long

lint: $(VENV)/ready-all ## check style (ruff) and types (mypy --strict)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready-all ## print what xedge costs, as ratios against the limits
	$(BIN)/python -m benchmarks

soak: $(VENV)/ready-all ## keep all services at half their ceiling for an hour (MINUTES=60); prints the page to open
	@$(BIN)/xedge report 16_soak -f notebooks/parameters/soak.yaml $(if $(MINUTES),-p minutes $(MINUTES))

licences: $(VENV)/ready-all ## list what is installed and under which licences
	@$(BIN)/python docs/site/licences.py

# JupyterLab asks the package index for a newer version and its own site for news, unless told.
QUIET := --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate
lab: $(VENV)/ready-lab ## open the notebooks in JupyterLab; further options in LAB="--ip=0.0.0.0 --port=8899"
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(QUIET) $(LAB) notebooks

docs: $(VENV)/ready-docs ## build the site in build/docs: pages, reference, notebooks as they ran
	@$(BIN)/python docs/site/build.py

clean: ## remove the environment and caches; models and reports stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.containers -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
