# make demo    install into .venv, train a small SPARNet on synthetic faces, write results/demo/comparison.png
# make test    install into .venv, lint, run every test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASICSR := .cache/basicsr-1.4.2
FACES ?=

.PHONY: demo test lint format unit test-classic clean

demo: $(VENV)/.installed
	$(BIN)/python scripts/demo.py --basicsr $(BASICSR) $(if $(FACES),--faces "$(FACES)")

test: $(VENV)/.tested lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

unit: $(VENV)/.tested
	$(BIN)/python -m pytest -m "not process"

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-classic:
	bash scripts/test_classic.sh

# BasicSR's source build would fetch torch a second time in an isolated environment: torch first, then without isolation.
$(VENV)/.installed: setup.py facesr_plugin.pth
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip "setuptools>=64" wheel
	$(BIN)/python -m pip install torch torchvision numpy cython
	$(BIN)/python -m pip install --no-build-isolation "basicsr>=1.4.2"
	$(BIN)/python -m pip install --no-build-isolation -e ".[plots]"
	mkdir -p .cache
	test -d $(BASICSR) || ( \
	  $(BIN)/python -m pip download --no-binary basicsr --no-deps --no-build-isolation -d .cache basicsr==1.4.2 && \
	  tar -xzf $(BASICSR).tar.gz -C .cache )
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --no-build-isolation -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .venv-classic .cache build dist *.egg-info
