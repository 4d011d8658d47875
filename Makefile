# make run      the console, then the server, on the embedded store
# make console  the console's files, which the binary embeds
# make test     everything: installs what the tests need, then runs them all
# make check    formatting, lints and documentation; warnings are errors
# make bench    ratios against the alternatives, measured side by side
# make torture  the model of the protocol and its simulation, then a cluster that fails in every way, for
#               TORTURE_SECONDS (900)
# make release  the binary alone, with the console in it

CARGO ?= cargo
TORTURE_SECONDS ?= 900
CONSOLE_BUILT := console/dist/index.html
CONSOLE_SOURCES := $(shell find console/src console/public console/scripts -type f) \
	$(wildcard console/*.html console/*.json console/*.ts) schema.graphql

.PHONY: run console release test check bench torture tools-build tools-test

run: console tools-build
	$(CARGO) run --release -- serve

release: console tools-build
	$(CARGO) build --release

console: $(CONSOLE_BUILT)

$(CONSOLE_BUILT): $(CONSOLE_SOURCES)
	@scripts/need.sh node npm
	cd console && npm ci --no-audit --no-fund && npm run build
	@touch $@

tools-build:
	@scripts/need.sh cargo

tools-test:
	@scripts/need.sh cargo node npm python3 pip chromium nginx caddy haproxy promtool
	@scripts/mongod.sh

test: tools-test console
	$(CARGO) test --locked
	cd console && npm test
	cd console && npm run e2e

check: tools-build console
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	cd console && npm run check

bench: console tools-build
	@scripts/need.sh python3 pip nginx
	@scripts/mongod.sh
	$(CARGO) bench --locked

torture: tools-build
	@scripts/need.sh spin cc python3 pip
	@scripts/mongod.sh
	docs/model/check.sh
	KEYMARK_SIMULATION_SCHEDULES=2000000 $(CARGO) test --locked --lib -- --nocapture coherence::simulation
	KEYMARK_TORTURE_SECONDS=$(TORTURE_SECONDS) $(CARGO) test --locked --test it -- --nocapture cluster::
