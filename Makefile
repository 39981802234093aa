# Everything runs in .venv, which needs nothing but python3 with venv.  make demo | test | lint | lab | results | clean
PYTHON ?= python3
PROFILE ?= $(if $(QUICK),smoke,demo)
RUN ?= runs/$(PROFILE)
BIN := .venv/bin
SEEDS := 0 1 2
# Results depend on the number of threads; two seeds are trained at a time, and two processes test.
ONE := OMP_NUM_THREADS=1

.PHONY: demo demo-quick test lint lab results clean env
.DELETE_ON_ERROR:

demo: env  ## the whole method on the embedded images, a few minutes; QUICK=1: seconds, learns nothing
	$(BIN)/cliplit reproduce --profile $(PROFILE) --run $(RUN)

demo-quick:
	$(MAKE) demo QUICK=1

test: env  ## all tests, also those marked slow, in two processes
	$(ONE) $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

lint: env  ## style, types and the import contract; a test does the same
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: env  ## the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

results: env  ## three seeds of the demo, the studies, and what is committed of them
	printf '%s\n' $(SEEDS) | $(ONE) xargs -P 2 -I {} $(BIN)/cliplit reproduce --seed {} --run runs/results/seed{}
	$(ONE) $(BIN)/cliplit reproduce --all --run runs/results/seed0
	$(BIN)/cliplit study --run runs/results/seed0 > /dev/null
	$(BIN)/cliplit tables $(SEEDS:%=--run runs/results/seed%) --output results/demo/tables
	$(BIN)/python data_scripts/processors.py runs/processors --seeds $(SEEDS:%=runs/results/seed%) --output results/demo/tables
	$(BIN)/python data_scripts/fill.py docs/studies.md runs/results/seed0/tables/*.md
	$(BIN)/python data_scripts/fill.py README.md results/demo/tables/*.md
	$(BIN)/python data_scripts/fill.py docs/results.md results/demo/tables/*.md
	$(BIN)/python data_scripts/publish.py runs/results/seed0 results/demo

clean:  ## the demo's runs, caches and the environment; your own runs stay
	rm -rf runs/demo runs/smoke runs/results .venv .pytest_cache .ruff_cache .mypy_cache .import_linter_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

env: .venv/stamp

.venv/stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,photos]'
	touch $@
