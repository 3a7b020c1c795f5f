# Each target installs what it needs; a second call is fast.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run lab test test-all test-airflow crash-matrix fuzz mutants audit bench lint notebooks screenshots lock wheelhouse clean

run: .venv/ready
	@$(BIN)/runbook run

lab: .venv/ready
	@$(BIN)/runbook lab

test: .venv/ready
	$(BIN)/pytest -p no:nbval -n auto --dist worksteal -m "not slow"
	$(BIN)/pytest --nbval notebooks

test-all: .venv/ready
	$(BIN)/pytest -p no:nbval -m slow tests/test_browser.py tests/test_browser_clumsy.py tests/test_lab.py
	$(BIN)/pytest -p no:nbval -n auto --dist worksteal -m "slow and not by_command" --ignore tests/test_browser.py --ignore tests/test_browser_clumsy.py --ignore tests/test_lab.py

# Execute the DAGs of examples/airflow with Airflow itself, in an environment of its own that is kept.
test-airflow: .venv/ready .venv-airflow/ready
	RUNBOOK_AIRFLOW=$(CURDIR)/.venv-airflow/bin/airflow $(BIN)/pytest -p no:nbval tests/test_airflow.py

.venv-airflow/ready: examples/airflow/requirements.lock | .venv/ready
	rm -rf .venv-airflow && $(PYTHON) -m venv .venv-airflow
	INDEX=$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)}; \
		$(BIN)/uv pip install --quiet --require-hashes --default-index $$INDEX --python .venv-airflow/bin/python -r $< || \
		.venv-airflow/bin/pip install --quiet --require-hashes -r $<
	touch $@

# Break the chain at every AWS call and every file write, and run it again. Slow.
crash-matrix: .venv/ready
	$(BIN)/python tools/crash_matrix.py
	$(BIN)/pytest -p no:nbval -n auto -m by_command

# Search at random, and long, for input on which two implementations differ or a traceback shows.
fuzz: .venv/ready
	$(BIN)/pytest -p no:nbval -n auto --hypothesis-profile=search tests/test_policy_documented.py tests/test_properties.py

# Change the modules that guard key material and accounts, one place at a time, and count the changes that no test sees.
# MUTANTS="create_once --sample 100" takes fewer. Hours.
mutants: .venv/ready
	$(BIN)/python tools/mutants.py $(MUTANTS)

# List known vulnerabilities of the locked versions, if the vulnerability data can be downloaded.
audit: .venv/ready
	$(BIN)/python tools/audit.py

# Measure, and write the table of docs/performance.md. Use an idle machine.
bench: .venv/ready
	$(BIN)/python tools/bench.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/notebooks.py --check

# Execute all notebooks against a fresh sandbox and store their outputs.
notebooks: .venv/ready
	$(BIN)/python tools/notebooks.py

# Take the screenshots under docs/ from a real run in a real browser.
screenshots: .venv/ready
	$(BIN)/python tools/screenshots.py

# Lock the newest versions that pyproject.toml allows, with hashes, and write environment.yml from the lock.
lock: .venv/ready
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --upgrade --output-file requirements.lock
	$(BIN)/python tools/environment.py
	$(BIN)/uv pip compile examples/airflow/requirements.in --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --upgrade --output-file examples/airflow/requirements.lock

# Download the locked packages, and what builds this one, for a set-up without network: make WHEELHOUSE=wheelhouse .venv/ready
wheelhouse: .venv/ready
	$(BIN)/pip download --quiet --no-deps --require-hashes -r requirements.lock -d wheelhouse
	$(BIN)/pip download --quiet --only-binary :all: hatchling editables -d wheelhouse
	@echo "wheelhouse: $$(ls wheelhouse | wc -l) files for Python $$($(BIN)/python -c 'import platform; print(platform.python_version(), platform.system(), platform.machine())')"

.venv/ready: requirements.lock pyproject.toml
	@PYTHON=$(PYTHON) WHEELHOUSE=$(WHEELHOUSE) tools/set_up.sh

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
