BASE_PYTHON ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

export MPLBACKEND := Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-slow lint typecheck doctest docs package bench fuzz clean

demo: $(INSTALLED)
	$(PYTHON) examples/vae.py --compare --out results/demo

# ArviZ writes a once-a-day stamp on import; parallel workers would race for it.
test: $(INSTALLED)
	@$(PYTHON) -W ignore -c 'import arviz'
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n 2 -m 'not slow' tests

test-slow: $(INSTALLED)
	@$(PYTHON) -W ignore -c 'import arviz'
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n 2 -m slow tests

lint: $(INSTALLED)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

typecheck: $(INSTALLED)
	$(PYTHON) -m mypy

doctest: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n 2 --doctest-modules --doctest-glob='*.md' \
		--ignore=docs/conf.py --ignore=docs/_build --ignore=docs/_generated \
		pyro_reparam_ext README.md docs

docs: $(INSTALLED)
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@! grep -rE '<(script|link)[^>]*(src|href)="https?:' --include='*.html' docs/_build/html
	@echo 'Built docs/_build/html/index.html'

package: $(INSTALLED)
	rm -rf dist
	$(PYTHON) -m build --quiet --no-isolation
	$(PYTHON) .ci/package.py dist

# JAX and TensorFlow Probability are compared with, and needed nowhere else.
bench: $(INSTALLED)
	@$(PYTHON) -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(PYTHON) -m tests.benchmarks

fuzz: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PYTHON) -m tests.fuzz
	OMP_NUM_THREADS=1 $(PYTHON) -m tests.fuzz --captured 200

clean:
	rm -rf $(VENV) build dist docs/_build docs/_generated results *.egg-info \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache
	find pyro_reparam_ext tests examples docs -name __pycache__ -prune -exec rm -rf {} +

# The second form serves systems whose python3 comes without ensurepip.
$(INSTALLED): pyproject.toml constraints.txt
	@echo 'Installing into $(VENV) (the first time takes a few minutes)'
	@$(BASE_PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
		$(BASE_PYTHON) -m venv --without-pip $(VENV) && \
		$(BASE_PYTHON) -m pip --python $(PYTHON) install --quiet pip; }
	@$(PYTHON) -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
