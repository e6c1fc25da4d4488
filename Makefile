# plait: `make train` trains the default job, `make test` runs every test, `make build` builds.
# Each sets up what is missing first (scripts/setup), and does nothing that is done already.
PRESET ?= release
JOB ?= examples/bible.toml
BIN := build/$(PRESET)/bin

.PHONY: all setup build train test ci clean
all: build

setup:
	@scripts/setup

build: setup
	@test -e build/$(PRESET)/build.ninja || cmake --preset $(PRESET) >build-configure.log 2>&1 || \
	  { cat build-configure.log; rm -f build-configure.log; exit 1; }
	@rm -f build-configure.log
	@cmake --build build/$(PRESET)

train: build
	@$(BIN)/plait train $(JOB) --overwrite

test: build
	@ctest --test-dir build/$(PRESET) --output-on-failure -j2

ci: ; @.ci/run

clean: ; rm -rf build
