# What one does with familiar from a clone. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup certificates build models demo check docs scripts test test-liveness soak soak-memory fleet adapters home-assistant vm test-landlock fuzz tuf-conformance yocto-parse arm test-arm deb test-deb test-debian sbom lint bench evaluate clean

ENV := . tools/env.sh;
# A webcam's recorded frames or pictures to measure on: make evaluate DATA=…
DATA ?=
# The soak's length and seed; its faults are the same for the same seed.
ROUNDS ?= 200
SEED ?= $(shell date +%s)
# Of the rehearsal with a fleet.
DEVICES ?= 1000
# How long each fuzz target runs, and which; all of them, if none is named.
SECONDS ?= 60
TARGETS ?=
# Of a bare Debian: bookworm (12) or trixie (13); root or user; whether to forget what an earlier run built there.
RELEASE ?= trixie
RUN_AS ?= root
FRESH ?=
# An hour at ten frames a second.
FRAMES ?= 36000

# Names of a broker, and of a client, that certificates are made for; into the folder $$CERTIFICATES (certificates).
HOST ?=
CLIENT ?=

PYTHON ?= python3.13

# Of the boot in a virtual machine: none is all of them.
CHAPTERS ?=
# What is tested under emulation, where a face costs 17 s: see tests/integration/arm.rs.
EMULATED := binary:: bundle:: bundle_signing:: messages:: rotation::
# Of the package: amd64 or arm64.
ARCH ?=

# Integration tests, where a judge that is missing fails them: $(call integration,VARIABLE=VALUE…,ARGUMENT… of the test program).
define integration
FAMILIAR_REQUIRE_JUDGES=1 $(1) cargo test --release --locked --test integration -- $(2)
endef
# One test by its whole name, with what it prints.
define integration_one
$(call integration,$(1),--exact $(2) --nocapture)
endef

help: ## This list
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ To use it

setup: ## Install what the machine lacks (all the targets below call it)
	@tools/setup.sh

build: ## The program, below cargo's target folder
	@tools/setup.sh build
	@cargo build --release --locked

models: build ## Build and sign the default model bundle, models/facenet
	@$(ENV) FAMILIAR="$$familiar" models/build.sh

# Built again only when its recipe changed; `make models` always builds.
models/facenet/model.sig: $(shell find models -not -path '*/.*' -not -path 'models/facenet*' -type f 2>/dev/null)
	@$(MAKE) models

demo: build models/facenet/model.sig ## See it work: a recorded scene, or CAMERA=/dev/video0 for yourself
	@tools/setup.sh demo
	@$(ENV) "$$target/openpeople/bin/python" -B demo/run.py "$$familiar" $(CAMERA)

certificates: ## For a broker of your own, by OpenSSL: HOST=homeassistant.local,192.168.1.10 (CLIENT=porch: a client's)
	@if [ -n "$(CLIENT)" ]; then tools/certificates.sh client "$(CLIENT)"; else tools/certificates.sh server "$(HOST)"; fi

evaluate: build models/facenet/model.sig ## Accuracy on pictures in LFW's layout: DATA=FOLDER with lfw/ and lfw_pairs.txt
	@tools/evaluate.sh "$(DATA)"

clean: ## Remove all that was built or fetched, but for the key that signs your models
	@$(ENV) rm -rf models/facenet demo/.work "$$target"/{judges,judges-home,judges-node,home-assistant,openpeople,lint,lint-scripts,arm,auditable,cyclonedx,deb,sbom}
	@find models/.build -mindepth 1 -maxdepth 1 ! -name signing.pem ! -name trust.d -exec rm -rf {} + 2>/dev/null || true
	@cargo clean --release

##@ To develop it

check: ## Before a commit: format, clippy, unit tests; neither Python nor a broker
	@began=$$SECONDS; \
	cargo fmt --check && \
	cargo clippy --release --locked --all-targets --quiet -- -D warnings && \
	cargo test --release --locked --lib --quiet && \
	printf 'checked in %d s\n' $$((SECONDS - began))

lint: docs scripts ## Format, clippy, links in the code's documentation, scripts, workflows, dependencies
	@tools/setup.sh build lint
	@cargo fmt --check
	@cargo clippy --release --locked --all-targets -- -D warnings
	@tools/dependencies.sh

docs: ## The code's documentation, with links that lead somewhere: TARGET/doc
	@tools/setup.sh build
	@cargo doc --release --locked --no-deps --document-private-items --quiet

scripts: ## Python by ruff, shell by shellcheck, YAML by yamllint, hosted workflows by zizmor
	@tools/setup.sh lint
	@tools/scripts.sh

test: build models/facenet/model.sig ## All tests, with foreign implementations as judges; ends with what was not run
	@tools/setup.sh demo judges
	@tools/test.sh

test-liveness: build models/facenet/model.sig ## The real liveness networks, where the bundle has them (a part of make test)
	@tools/setup.sh demo
	@tools/suites.sh liveness

fuzz: ## Search for inputs that break a parser: SECONDS=60 for each, TARGETS="frame order"
	@tools/setup.sh build
	@tools/fuzz.sh $(SECONDS) $(TARGETS)

bench: build models/facenet/model.sig ## Latency per stage, start-up, memory, delivery; and the same networks in onnxruntime
	@$(ENV) python3 -B tools/bench.py "$$familiar" "$$FAMILIAR_TEST_BUNDLE" "$$FAMILIAR_TEST_TRUST" models/.build/venv/bin/python
	@$(ENV) cargo bench --quiet --locked --bench delivery

soak: build models/facenet/model.sig ## Delivery under 200 rounds of random faults: ROUNDS=200 SEED=1
	@tools/setup.sh demo judges
	@$(ENV) $(call integration_one,FAMILIAR_SOAK_ROUNDS=$(ROUNDS) FAMILIAR_SOAK_SEED=$(SEED),soak::nothing_lost_forged_or_out_of_order)

soak-memory: build models/facenet/model.sig ## The daemon's memory over an hour's frames: FRAMES=36000
	@tools/setup.sh demo judges
	@$(ENV) $(call integration_one,FAMILIAR_SOAK_FRAMES=$(FRAMES),soak::memory::memory_is_flat --ignored)

fleet: build models/facenet/model.sig ## A rehearsal with many devices: waves, a halted wave, a broker restarted: DEVICES=1000
	@tools/setup.sh demo judges
	@$(ENV) ulimit -n "$$(ulimit -Hn)" && \
	  $(call integration_one,FAMILIAR_FLEET=$(DEVICES),fleet::waves_reach_whom_they_name_and_a_restart_loses_nothing)

adapters: build models/facenet/model.sig ## The adapters for fleet engines, with Mender, SWUpdate and RAUC themselves
	@tools/setup.sh demo judges adapters
	@$(ENV) $(call integration,FAMILIAR_ENGINES="$$target/engines",--include-ignored adapters::)

home-assistant: build ## The tests with Home Assistant in a later version: PYTHON=… is one of 3.13
	@PYTHON="$(PYTHON)" tools/setup.sh demo judges home-assistant
	@$(ENV) $(call integration,FAMILIAR_JUDGES_HOME="$$target/home-assistant/bin/python",home_assistant)

test-landlock: ## The daemon's own sandbox under Debian's kernels that have Landlock, emulated: 6.1 and 6.12 (minutes)
	@tools/setup.sh build landlock
	@$(ENV) cargo test --release --locked --lib --no-run && \
	  tests/vm/landlock.sh "$$(cargo test --release --locked --lib --no-run --message-format=json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)"

tuf-conformance: ## The update client under TUF's own conformance suite: TUF_CONFORMANCE=FOLDER, a copy of it
	@TUF_CONFORMANCE="$(TUF_CONFORMANCE)" tools/tuf_conformance.sh

##@ To release it

arm: ## Build for 64-bit ARM (Raspberry Pi, Jetson) on this machine
	@tools/setup.sh build arm arm-emulation
	@tools/arm.sh

deb: build models/facenet/model.sig ## A Debian package for this machine, or for a Raspberry Pi: ARCH=arm64
	@tools/setup.sh build deb $(if $(filter arm64,$(ARCH)),arm arm-emulation)
	@tools/deb.sh $(ARCH)

sbom: ## Bill of materials, CycloneDX, of what `make build` and `make arm` build
	@tools/setup.sh sbom
	@tools/sbom.sh

test-arm: build models/facenet/model.sig arm ## The program for ARM in an emulator: the same people, events to a broker (minutes)
	@tools/setup.sh demo judges
	@$(ENV) export FAMILIAR_BINARY="$$target/arm/emulated" FAMILIAR_ELF="$$target/arm/familiar"; \
	  $(call integration,,--ignored arm:: binary::) && \
	  $(call integration,,$(EMULATED) --skip default_bundle::)

# Holds PKG-05.
test-deb: build models/facenet/model.sig ## Install, set up, upgrade, remove and purge the package in a small Debian 12 and 13 (root)
	@tools/setup.sh demo deb
	@$(ENV) old=$$(tools/deb.sh) && new=$$(tools/deb.sh "" 9.9.9) && \
	  lintian --allow-root --fail-on error,warning "$$old" && \
	  for release in bookworm trixie; do \
	    packaging/lifecycle.sh "$$old" "$$new" "$$FAMILIAR_OPENPEOPLE/P001/assets/studio_portrait.jpg" $$release && \
	    packaging/check_in_unit.sh "$$old" $$release || exit 1; done

test-debian: ## A newcomer's first steps in a bare Debian (root): RELEASE=trixie TARGETS="demo test deb", RUN_AS=user, FRESH=1
	@tools/setup.sh deb
	@RUN_AS="$(RUN_AS)" FRESH="$(FRESH)" tools/bare_debian.sh "$(RELEASE)" $(or $(TARGETS),demo test deb)

vm: build models/facenet/model.sig ## Boot the package in an emulated ARM machine: camera, power cuts, life cycle (root; hours): CHAPTERS="install boot"
	@tools/setup.sh build arm arm-emulation deb demo vm
	@tests/vm/root.sh
	@$(ENV) package=$$(tools/deb.sh arm64) && \
	  python3 -B tests/vm/run.py "$$target/vm" "$$familiar" "$$package" "$$FAMILIAR_OPENPEOPLE" $(CHAPTERS)

yocto-parse: ## bitbake reads the Yocto layer beside the real ones: YOCTO_LAYERS=FOLDER with them (a quarter of an hour)
	@tools/yocto_parse.sh "$(YOCTO_LAYERS)"
