# `make run` and `make test` set up what they need in .venv, with Python >= 3.11 and pip, or uv where it is present.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV := $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
ARGS ?=
# What `make run` installs; Parquet is 50 MB that few need.
RUN_EXTRAS := llama semantic redis encryption otel httpx

ifdef UV
VENV := uv venv --quiet --allow-existing --python $(PYTHON) .venv
INSTALL := uv pip install --quiet --python $(BIN)/python
else
VENV := $(PYTHON) -m venv .venv
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.PHONY: run setup test check format bench bench-cache bench-cache-speed bench-cache-replay bench-route bench-route-http \
	bench-cascade bench-sinks bench-anatomy screenshots reference lock clean

run: .venv/run.stamp  ## serve the embedded engine on http://127.0.0.1:8400
	$(BIN)/hasten serve $(ARGS)

setup: .venv/dev.stamp  ## everything for run and test, the default model included

test: .venv/dev.stamp  ## the tests; ARGS for pytest
	$(BIN)/python -m pytest $(ARGS)

check: .venv/dev.stamp  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev.stamp  ## the gateway against going direct and against other gateways; ARGS for bench/overhead.py
	$(BIN)/python bench/overhead.py $(ARGS)

bench-cache: .venv/dev.stamp  ## what the semantic cache answers and how much is right; ARGS for bench/cache_quality.py
	$(BIN)/python bench/cache_quality.py $(ARGS)

bench-cache-speed: .venv/dev.stamp  ## what the cache costs and saves; ARGS for bench/cache_speed.py
	$(BIN)/python bench/cache_speed.py $(ARGS)

bench-cache-replay: .venv/dev.stamp  ## the embedded engine with the cache off and on; ARGS for bench/cache_replay.py
	$(BIN)/python bench/cache_replay.py $(ARGS)

bench-route: .venv/dev.stamp  ## how well the router ranks prompts; ARGS='--data FILE' for bench/route_quality.py
	$(BIN)/python bench/route_quality.py $(ARGS)

bench-route-http: .venv/dev.stamp  ## what routing saves over HTTP; ARGS for bench/route_http.py
	$(BIN)/python bench/route_http.py $(ARGS)

bench-cascade: .venv/dev.stamp  ## what the cascade's judge is worth and costs; ARGS for bench/route_cascade.py
	$(BIN)/python bench/route_cascade.py $(ARGS)

screenshots: .venv/dev.stamp  ## the dashboard's pictures for the documentation; ARGS for tests/browser/screenshots.py
	$(BIN)/python -m tests.browser.screenshots $(ARGS)

bench-sinks: .venv/dev.stamp  ## what the request log costs a request, by sink; ARGS for bench/sinks.py
	$(BIN)/python bench/sinks.py $(ARGS)

bench-anatomy: .venv/dev.stamp  ## whether each stage's time is right under load; ARGS for bench/anatomy.py
	$(BIN)/python bench/anatomy.py $(ARGS)

reference:  ## record the embedded model's reference answers with torch and transformers (not needed for the tests)
	$(PYTHON) -m venv .venv-reference
	.venv-reference/bin/python -m pip install --quiet -r requirements/reference.txt
	.venv-reference/bin/python tools/record_reference.py

lock:  ## pin the dependencies anew; needs uv
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links $(RUN_EXTRAS:%=--extra %) pyproject.toml -o requirements/run.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --all-extras --group dev pyproject.toml -o requirements/dev.lock

clean:
	rm -rf .venv .venv-reference .mypy_cache .ruff_cache .hypothesis dist

.venv/python.stamp:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	$(VENV)
	@touch $@

.venv/run.stamp: .venv/python.stamp requirements/run.lock pyproject.toml
	$(INSTALL) --require-hashes -r requirements/run.lock
	$(INSTALL) --no-deps -e .
	@touch $@

.venv/dev.stamp: .venv/python.stamp requirements/dev.lock pyproject.toml
	$(INSTALL) --require-hashes -r requirements/dev.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	$(BIN)/hasten models pull smollm2-135m
	$(BIN)/hasten models pull all-minilm-l6-v2
	@touch $@ .venv/run.stamp
