# Everything here needs only git, make and python3 (3.11 or newer, with venv).
#   make run     see it work: three small servers, the proxy in front, on free loopback ports; compiled, if gcc and
#                Python's headers are there
#   make test    style, types and every test, JOBS=2 at a time (the tests of a program that is not installed are skipped)
#   make check   style, types and the import rules only; seconds
#   make compile  compile the hot modules in place (needs gcc and Python's headers): the same, faster
#   make uncompile  take the compiled form away again
#   make wheel    build a wheel of the compiled form for each Python at hand, in dist/
#   make deb      build a package for Debian or Ubuntu, in dist/; make rpm one for EL (INTERPRETER: who will run it)
#   make bundle   everything that an installation without a network takes, in one archive; make packages: all three
#   make bench    lbproxy beside nginx and HAProxy, under 15 minutes; make bench-quick under 2
#   make simulate  the data plane in a simulated world, SEEDS=2000 of them; make mutations: does it see faults put in on purpose?
#   make fuzz     bytes that nobody would write for everything that reads any, SECONDS=60 for each [RUNS=n TARGET=name]
#   make trials   what a client notices when a master fails, beside nginx and HAProxy (needs root)
#   make soak MINUTES=60  everything that can happen to it, over and over; is it flat? (compiles; needs root)
#   make docs     the pages of docs/, in build/docs/index.html, with docs/reference/ made anew
#   make lock    write requirements.lock anew from pyproject.toml (LOCK=--upgrade for newer releases)
#   make clean   take away what the above made

PYTHON ?= python3
VENV ?= .venv
INTERPRETER ?= /usr/bin/python3
LOCK ?=
SEEDS ?= 2000
JOBS ?= 2
MINUTES ?= 60
SECONDS ?= 60
bin := $(VENV)/bin
installed := $(VENV)/.installed
ansible := $(VENV)/ansible/.installed
ansible-pins := tests/support/ansible/requirements.lock
fuzz := $(VENV)/fuzz/.installed
fuzz-pins := tests/fuzz/requirements.lock
mkdocs := $(VENV)/docs/.installed
mkdocs-pins := docs/requirements.lock
# Most of a test is waiting. A file's tests stay together: they share what is dear to make.
pytest := $(bin)/python -m pytest --numprocesses $(JOBS) --dist loadfile
pin := $(VENV)/lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' $(LOCK)

.PHONY: simulate mutations fuzz soak run test check compile test-compiled uncompile wheel deb rpm bundle packages bench bench-quick trials docs lock clean

# A copy, so that nothing compiled stands beside the sources and is taken for them.
# env, so that no shell stands before the demo: a signal to make, or to its child, ends it.
run: build/run/.built
	@PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/run $(bin)/python -m lbproxy --version
	@env PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/run $(bin)/python -m lbproxy demo

build/run/.built: $(installed) $(shell find lbproxy -name '*.py' -o -name '*.html' -o -name '*.[ch]') setup.py
	@echo "building lbproxy; with a C compiler this takes half a minute (LBPROXY_COMPILE=0 does without)"
	@rm -rf build/run
	@$(bin)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target build/run .
	@touch $@

test: $(installed) $(ansible) $(mkdocs)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/python -m mypy
	$(pytest)

check: $(installed)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/python -m mypy
	$(bin)/python -m pytest -q tests/unit/test_imports.py

compile: $(installed)
	LBPROXY_COMPILE=1 $(bin)/python setup.py --quiet build_ext --inplace

test-compiled: compile
	$(bin)/python -c 'import sys; from lbproxy.net.syscalls import COMPILED; sys.exit(not COMPILED)'
	$(pytest) tests/unit tests/live tests/process/test_upgrade.py; status=$$?; \
		$(MAKE) --no-print-directory uncompile; exit $$status

wheel:
	$(PYTHON) packaging/wheel.py

deb rpm bundle:
	$(PYTHON) packaging/build.py --python $(INTERPRETER) $@

packages:
	$(PYTHON) packaging/build.py --python $(INTERPRETER) deb rpm bundle

uncompile:
	@find lbproxy -name '*.so' -delete

bench: $(installed)
	$(bin)/python bench/run.py

bench-quick: $(installed)
	$(bin)/python bench/run.py --quick

simulate: $(installed)
	$(bin)/python -m tests.sim --seeds $(SEEDS)

mutations: $(installed)
	$(bin)/python -m tests.sim.mutations

fuzz: $(fuzz)
	PYTHONPATH=$(VENV)/fuzz $(bin)/python -m tests.fuzz --seconds $(SECONDS) $(if $(RUNS),--runs $(RUNS)) \
		$(if $(TARGET),--target $(TARGET)) $(if $(INPUT),--input $(INPUT))

trials: $(installed)
	$(bin)/python -m bench.trials --proxies lbproxy,nginx,haproxy

soak: compile
	$(bin)/python -m bench.soak $(MINUTES)

docs: $(installed) $(mkdocs)
	$(bin)/python packaging/reference.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build --strict

$(installed): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(bin)/pip || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }
	$(bin)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	LBPROXY_COMPILE=0 $(bin)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Apart: what a test runs as a program is none of the packages that lbproxy is tested with.
$(ansible): $(ansible-pins) $(installed)
	$(bin)/python -m venv --clear $(VENV)/ansible
	$(VENV)/ansible/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(ansible-pins)
	@touch $@

$(mkdocs): $(mkdocs-pins) $(installed)
	$(bin)/python -m venv --clear $(VENV)/docs
	$(VENV)/docs/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(mkdocs-pins)
	@touch $@

# Beside the packages of the tests, which need none of it.
$(fuzz): $(fuzz-pins) $(installed)
	@rm -rf $(VENV)/fuzz
	$(bin)/pip install --quiet --disable-pip-version-check --require-hashes --target $(VENV)/fuzz -r $(fuzz-pins)
	@touch $@

lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet --disable-pip-version-check uv
	$(pin) --extra test --output-file requirements.lock pyproject.toml
	$(pin) --group pyproject.toml:packaging --output-file packaging/requirements.lock
	$(pin) --group pyproject.toml:ansible --output-file $(ansible-pins)
	$(pin) --group pyproject.toml:docs --output-file $(mkdocs-pins)
	$(pin) --group pyproject.toml:fuzz --output-file $(fuzz-pins)
	@rm -rf $(VENV)/lock

clean: uncompile
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find lbproxy tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
