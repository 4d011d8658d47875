# make run          build the console and the server, and serve on the embedded store
# make console      build the console's files, which the binary embeds
# make release      build the binary, with the console in it: target/release/keymark
# make test         install what the tests need, and run all of them
# make check        formatting, lints and documentation; warnings are errors
# make check-quick  the part of `make check` that builds nothing
# make audit        licenses, sources and duplicate versions of every dependency
# make advisories   known vulnerabilities of every dependency, from databases on github.com and npmjs.com
# make bench        compare with the alternatives, side by side, and write docs/benchmarks.md; PART=search runs one
#                   benchmark of benches/, and only prints
# make scale        measure with a million keys and ten million audit entries, in an hour and 15 GB of the temporary directory
# make torture      check the model of the protocol, simulate it, parse wrong bytes for minutes, and let a cluster fail
#                   in every way for TORTURE_SECONDS (900)
# make upgrade-test run the release before beside this one, over one replica set and on one embedded store
# make image-test   build the image's last stage with buildah, and run it; needs root
# make manifests-test  check the manifests for Kubernetes, the systemd unit and compose.yaml
# make dist         build the release's tar ball in dist/
# make dist-test    build the tar ball twice, in two folders, and compare the bytes
# make hooks        run `make check-quick` before each commit of this clone

CARGO ?= cargo
TORTURE_SECONDS ?= 900
# The tests wait, for the database and for time limits, as long as they compute.
TEST_THREADS ?= $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))
TARGET = $(or $(CARGO_TARGET_DIR),target)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
CONSOLE_BUILT := console/dist/index.html
CONSOLE_SOURCES := $(shell find console/src console/public console/scripts -type f) \
	$(shell find clients/typescript/documents clients/typescript/scripts clients/typescript/src -type f ! -name documents.ts) \
	$(wildcard console/*.html console/*.json console/*.ts) schema.graphql
# npm writes these last, so they exist only after a complete installation.
NODE_MODULES := console/node_modules/.package-lock.json clients/typescript/node_modules/.package-lock.json

.PHONY: run console release test check check-quick audit advisories bench scale torture upgrade-test image-test manifests-test dist dist-test hooks tools-build tools-test tools-audit

run: console tools-build
	$(CARGO) run --locked --release -- serve

release: console tools-build
	$(CARGO) build --locked --release

console: $(CONSOLE_BUILT)

$(CONSOLE_BUILT): $(CONSOLE_SOURCES) $(NODE_MODULES)
	cd console && npm run build
	@touch $@

%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@scripts/need.sh node npm
	cd $* && npm ci --no-audit --no-fund
	@touch $@

tools-build:
	@scripts/need.sh cargo

tools-test:
	@scripts/need.sh cargo node npm python3 pip chromium nginx caddy haproxy openssl curl promtool
	@scripts/mongod.sh
	@scripts/examples.sh

tools-audit: tools-build
	@scripts/need.sh node
	@scripts/cargo-deny.sh

test: tools-test console docs/examples/node_modules/.package-lock.json manifests-test
	$(CARGO) test --locked -- --test-threads=$(TEST_THREADS)
	cd clients/typescript && npm test
	cd console && npm test
	cd console && npm run e2e

check: check-quick console
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	@# It is not among all targets, since its `bench` is false.
	$(CARGO) clippy --locked --bench scale --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	cd console && npm run check

check-quick: tools-build $(NODE_MODULES)
	$(CARGO) fmt --check
	cd console && npm exec -- biome check ..

audit: tools-audit
	.tools/cargo-deny/bin/cargo-deny --locked check bans licenses sources
	node scripts/npm-licenses.mjs

advisories: tools-audit
	.tools/cargo-deny/bin/cargo-deny --locked check advisories
	cd console && npm audit
	cd clients/typescript && npm audit
	cd docs/examples && npm audit
	cd benches/peers && npm audit

bench: console tools-build benches/peers/node_modules/.package-lock.json
	@scripts/need.sh python3 pip nginx
	@scripts/mongod.sh
	CARGO="$(CARGO)" scripts/bench.sh $(PART)

scale: tools-build
	@scripts/mongod.sh
	$(CARGO) bench --locked --bench scale

torture: tools-build
	@scripts/need.sh spin cc python3 pip
	@scripts/mongod.sh
	docs/model/check.sh
	KEYMARK_SIMULATION_SCHEDULES=2000000 $(CARGO) test --locked --lib -- --nocapture coherence::simulation
	PROPTEST_CASES=20000 $(CARGO) test --locked --test it -- fuzz::
	KEYMARK_TORTURE_SECONDS=$(TORTURE_SECONDS) $(CARGO) test --locked --test it -- --nocapture cluster::

upgrade-test: tools-test console
	KEYMARK_PREVIOUS_RELEASE="$$(scripts/previous-release.sh)" \
		$(CARGO) test --locked --features upgrade-test --test it -- cluster::upgrade

image-test: console tools-build
	@scripts/need.sh buildah python3
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --locked --release --target $(HOST)
	scripts/image-test.sh $(TARGET)/$(HOST)/release/keymark

manifests-test:
	@scripts/need.sh python3 pip systemd-analyze
	@scripts/manifests-test.sh

dist: console tools-build
	CARGO="$(CARGO)" scripts/dist.sh

dist-test: tools-build
	@scripts/need.sh node npm
	CARGO="$(CARGO)" MAKE="$(MAKE)" scripts/dist-twice.sh

hooks:
	git config core.hooksPath .githooks
