# Everything happens in .venv; PYTHON picks the interpreter it is made from.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: install demo test check clean

install: .venv/.installed  ## make .venv and install the pinned set

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "GenDiv needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[lora,test]'
	touch $@

demo: install  ## train, sample, judge, score; writes runs/demo/leaderboard/index.html
	$(BIN)/gendiv demo --out runs/demo

test: install  ## the fast tests; `make test MARK=` runs the slow ones too
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m '$(MARK)' -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

MARK = not slow

check: install  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove what the demo and the tests made; keeps .venv
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
