# Everything a person or CI does with this checkout. `make help` lists it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: help demo samples pages pictures test stress server tmux coverage mutants test-all e2e screens browser torture conformance matrix bench bench-here lint docs deb rpm dist build release clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One virtual environment for all targets, made again when pyproject.toml changes.
$(BIN)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dbbasic-queue needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,lint]' build
	@touch $@

demo: $(BIN)/.ready ## the example application on real input (ENGINE=redis: its jobs on a server)
	@$(BIN)/python examples/demo.py $(ENGINE)

pages: $(BIN)/.ready ## the README's picture, and what docs/ has of the library's own words
	@$(BIN)/python packaging/tools/picture.py
	@$(BIN)/python packaging/tools/pages.py

pictures: $(BIN)/.ready tmux browser ## the README's pictures of dbq top and dbq report, in use
	@$(BIN)/pip install --quiet --disable-pip-version-check pillow
	@$(BIN)/python packaging/tools/pictures.py
	@$(BIN)/python packaging/tools/report_picture.py

# The released 1.0.0 and the dbbasic-tsv of its time, whose files we read and which read ours.
.cache/v1/.ready: | $(BIN)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .cache/v1 dbbasic-queue==1.0.0 dbbasic-tsv==1.0.2
	@touch $@

# The family's released packages, which find this checkout's dbbasic_queue beside them.
# Those of its accounts are apart, as most of the tests are of a site without them.
ACCOUNTS := dbbasic-accounts==0.1.1 dbbasic-sessions==3.0.0
FAMILY := dbbasic-cli==1.0.0 dbbasic-email==1.0.0 dbbasic-web==0.1.11 dbbasic-admin==0.1.1
.cache/family/.ready: Makefile | $(BIN)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .cache/family $(FAMILY) "setuptools<81"
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade --target .cache/family/accounts $(ACCOUNTS)
	@touch $@

samples: $(BIN)/.ready ## the packaged config and the JSON Schema, after a change of the config's keys
	$(BIN)/python packaging/tools/samples.py

# Two for each processor: many tests wait for something now and then.
PROCESSES ?= $(shell expr 2 \* `nproc`)

# The programs that tests start find the modules compiled: each would compile them for itself else.
test stress: export PYTHONDONTWRITEBYTECODE :=

test: $(BIN)/.ready .cache/v1/.ready .cache/family/.ready server tmux ## the tests (about two minutes; ARGS="-n 0 tests/cron" for some)
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal --ignore=tests/stress $(ARGS)

stress: $(BIN)/.ready .cache/v1/.ready ## verbs and processes killed at each step, and the quick form of the torture: two minutes
	DBQ_ALL_PARTIES=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal \
	  tests/stress tests/trust/test_obstacles.py $(ARGS)

# What is to be shown on a server is left out where there is none and it cannot be installed.
server: ## a Redis server for the tests, where there is none (root, on Debian)
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -q && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends redis-server; } || \
	  echo "no Redis server here, and none installed: the tests of the engine on a server are left out"

tmux: ## tmux for the tests of what a terminal shows, where there is none (root, on Debian)
	@command -v tmux >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -q && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends tmux; } || \
	  echo "no tmux here, and none installed: the tests of what a terminal shows are left out"

coverage: $(BIN)/.ready .cache/v1/.ready .cache/family/.ready ## the tests' branch coverage, without child processes; no gate
	$(BIN)/coverage run -m pytest --ignore=tests/stress --ignore=tests/release
	$(BIN)/coverage report --skip-covered

mutants: $(BIN)/.ready .cache/v1/.ready .cache/family/.ready ## small faults in a copy, each of which a test must notice
	$(BIN)/python -m tests.mutants $(ARGS)

# What boots the machines; debian-archive-keyring lets debootstrap check what it fetches.
E2E_TOOLS    := debootstrap systemd-nspawn systemd-analyze nsenter setpriv
E2E_PACKAGES := debootstrap systemd-container systemd util-linux debian-archive-keyring
DEBIAN       ?= 12

e2e: $(BIN)/.ready ## the installers on a booted Debian, as root (DEBIAN=13 for that release; FILES=...)
	@test "$$(id -u)" = 0 || { echo "make e2e boots machines and takes root: sudo make e2e" >&2; exit 1; }
	@for tool in $(E2E_TOOLS); do command -v $$tool >/dev/null && continue; \
	  echo "e2e: $$tool is missing; installing $(E2E_PACKAGES)"; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -q -y --no-install-recommends $(E2E_PACKAGES) && break || exit 1; \
	done
	$(BIN)/pip install --quiet --disable-pip-version-check build twine
	DBQ_E2E_DEBIAN=$(DEBIAN) $(BIN)/python -m pytest -vv -rfE --capture=no $(or $(FILES),tests/e2e)

torture: $(BIN)/.ready ## kills, power cuts and disk errors at every step; a soak (15 minutes)
	@command -v strace >/dev/null || { echo "torture: strace is missing; installing it"; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y strace; }
	$(BIN)/python -m tests.torture $(ARGS)

# The peers and the drawing of the curve. Measured with the system's own Python, which the packages
# run on, where it can be had: one from elsewhere is often built without optimisation, and up to a
# third slower. `make bench PYTHON=...` measures with another.
SYSTEM_PYTHON = $(shell /usr/bin/python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/python3 || echo $(PYTHON))
BENCH_PYTHON  = $(if $(filter file,$(origin PYTHON)),$(SYSTEM_PYTHON),$(PYTHON))

# The pages in Debian's Chromium, driven by Playwright, which brings no browser here; axe-core finds
# what a person with a screen reader would miss. Pictures of them are in dist/screens then.
SCREENS := $(CURDIR)/.cache/screens
screens: $(BIN)/.ready browser ## the report and the page in a browser
	@command -v npm >/dev/null || { echo "screens: npm is missing; installing it"; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -q -y --no-install-recommends npm; }
	@test -e $(SCREENS)/node_modules/axe-core/axe.min.js || \
	  { mkdir -p $(SCREENS) && npm install --silent --no-audit --no-fund --prefix $(SCREENS) axe-core@4.14.1; }
	$(BIN)/python -m pytest -vv -s tests/screens $(ARGS)

browser: $(BIN)/.ready ## Debian's Chromium, and Playwright to drive it (root, where it is missing)
	@command -v chromium >/dev/null || { echo "chromium is missing; installing it"; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -q -y --no-install-recommends chromium; }
	$(BIN)/pip install --quiet --disable-pip-version-check playwright

# Each server in turn; where there is no valkey-server, Debian 13's is unpacked below .cache. A test
# that hangs for five minutes ends the run, and so does one of half an hour.
SERVERS         ?= redis-server valkey-server
SERVER_PACKAGES := redis-server strace util-linux iproute2
LIMIT           := timeout --foreground --signal=INT --kill-after=1m 30m
conformance: $(BIN)/.ready ## what each engine promises, with kills and power cuts, on real servers (15 minutes)
	@for tool in redis-server strace unshare ip; do command -v $$tool >/dev/null && continue; \
	  echo "conformance: $$tool is missing; installing $(SERVER_PACKAGES)"; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -q -y --no-install-recommends $(SERVER_PACKAGES) && break || exit 1; \
	done
	@command -v valkey-server >/dev/null || $(BIN)/python tests/helpers/valkey.py
	@for server in $(SERVERS); do \
	  server=$$(PATH=$$PATH:$(CURDIR)/.cache/valkey command -v $$server) || exit 1; \
	  $$server --version; \
	  DBQ_CONFORMANCE=1 DBQ_TEST_SERVER=$$server $(LIMIT) $(BIN)/python -m pytest tests/conformance \
	    tests/engines/test_redis_engine.py tests/engines/test_redis_lost_answers.py $(ARGS) || exit 1; \
	done

# The versions of RQ: those of Debian 13, the last before 3, and the newest; each in a folder of its
# own. With each, the verbs and workers (A to D), who wants the same (G), the slots (H), and all that
# is known of the engine: RQ's own tools look at our jobs and work beside us in G and there.
RQS ?= "rq==2.3.* redis==6.1.*" "rq==2.12.*" "rq==3.*"
matrix: $(BIN)/.ready server ## the engine on a server with each version of RQ, and its tools beside us
	@for rq in $(RQS); do \
	  folder=$(CURDIR)/.cache/$$(echo "$$rq" | tr -c 'a-z0-9.\n' '-'); \
	  test -e $$folder/rq || $(BIN)/pip install --quiet --disable-pip-version-check \
	    --no-warn-conflicts --target $$folder $$rq || exit 1; \
	  PYTHONPATH=$$folder $(BIN)/python -c \
	    'import redis, rq.version; print("rq", rq.version.VERSION, "redis", redis.__version__)'; \
	  PYTHONPATH=$$folder DBQ_CONFORMANCE=1 $(LIMIT) $(BIN)/python -m pytest -n $(PROCESSES) -k "not file" \
	    tests/conformance/test_[abcdgh]_*.py tests/engines/test_redis_*.py $(ARGS) || exit 1; \
	done

bench: ## beside the peers, under 15 minutes (QUICK=1: under two; PYTHON=... for another one)
	@$(MAKE) --no-print-directory VENV=.cache/bench-venv PYTHON=$(BENCH_PYTHON) bench-here

bench-here: $(BIN)/.bench-ready .cache/v1/.ready
	$(BIN)/python -m compileall -q dbbasic_queue  # as an installation does, for the cold start
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick)
	$(BIN)/python -m tests.bench.servers $(if $(QUICK),--quick)

$(BIN)/.bench-ready: $(BIN)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

lint: $(BIN)/.ready ## ruff and mypy --strict; that the tests of booted machines can be read
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --collect-only --quiet --quiet tests/e2e

# Links to pages, headings and files of the checkout are looked at, and a warning is an error.
docs: $(BIN)/.docs-ready ## a site of docs/ and the pages beside it, into dist/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file packaging/docs/mkdocs.yml
	@echo dist/site/index.html

$(BIN)/.docs-ready: $(BIN)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# Each from a clean checkout, into dist/, the same bytes each time; root installs what it lacks.
deb: $(BIN)/.ready ## the Debian package, checked by lintian if that is there
	$(BIN)/python packaging/tools/packages.py deb
	@! command -v lintian >/dev/null || lintian --pedantic --allow-root --fail-on error,warning,pedantic dist/dbbasic-queue_*_all.deb

rpm: $(BIN)/.ready ## the RPM package, checked by rpmlint if that is there
	$(BIN)/python packaging/tools/packages.py rpm
	@! command -v rpmlint >/dev/null || rpmlint --config packaging/rpm/rpmlint.toml dist/dbbasic-queue-*.noarch.rpm

dist: $(BIN)/.ready ## wheel and sdist, checked by twine
	$(BIN)/pip install --quiet --disable-pip-version-check build twine
	$(BIN)/python packaging/tools/packages.py dist

build: dist

# What checks packages is installed first, so that nothing is left out. No step here publishes.
release: $(BIN)/.ready ## all that is handed out, tested and checked, into dist/; and what is left to do
	rm -rf dist
	$(BIN)/python packaging/tools/release.py before
	@$(MAKE) --no-print-directory lint docs test
	@$(MAKE) --no-print-directory deb rpm dist
	$(BIN)/python packaging/tools/release.py after

VERSIONS ?= 3.11 3.12 3.13 3.14
test-all: dist .cache/v1/.ready .cache/family/.ready ## the tests on each Python found, against the wheel (VERSIONS="3.12 3.13")
	$(BIN)/python packaging/tools/test_all.py --versions "$(VERSIONS)" dist/dbbasic_queue-*-py3-none-any.whl

clean: ## remove everything the targets made
	rm -rf $(VENV) build dist .cache .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
