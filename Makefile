# The two commands of the README. Both use a virtual environment of their own in .venv.
PYTHON ?= python3
VENV   ?= .venv
OUTPUT ?= output

.PHONY: demo test coverage test-comfyui fuzz lint clean

demo: $(VENV)/installed
	$(VENV)/bin/videoldm run workflows/text_to_video.json --output $(OUTPUT) --contact-sheet

# In two processes; tests/conftest.py says which tests stay together.
WORKERS ?= 2
test: $(VENV)/installed-dev lint
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} \
		$(VENV)/bin/python -m pytest -m "not full_size" -n $(WORKERS) $(PYTEST_OPTIONS)

# The same tests with the coverage of core, which takes a third more time.
coverage:
	$(MAKE) test PYTEST_OPTIONS="--cov=videoldm.core --cov-report=term --cov-fail-under=90"

# Against a real ComfyUI: COMFYUI_PATH (~/ComfyUI), COMFYUI_PYTHON (its .venv), with this project's
# requirements.txt installed there, too. `make test` runs these tests as well, if there is one, but
# for those with trained or full-size models.
# The tests of the browser side also need a Chromium (apt install chromium).
test-comfyui: $(VENV)/installed-dev
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e ".[browser]"
	$(VENV)/bin/python -m pytest tests/host -rs

# Broken, hostile and odd input for a minute; `python -m tests.fuzz --help` says how to repeat a case.
SECONDS ?= 60
SEED    ?= 0
fuzz: $(VENV)/installed-dev
	$(VENV)/bin/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

# torch first and alone: the pinned build then satisfies every later requirement.
$(VENV)/installed: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(OUTPUT) build *.egg-info
