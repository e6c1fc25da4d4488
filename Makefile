# plait: `make train` trains the default job, `make test` runs every test, `make build` builds the command.
# Each sets up what is missing first (scripts/setup), builds no more than it needs, and does nothing
# that is done already.
PRESET ?= release
JOB ?= examples/bible.toml
BUILD := build/$(PRESET)

# $(call configure,FLAGS): quiet unless it fails.
configure = cmake --preset $(PRESET) $(1) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }

.PHONY: all build cuda train test ci clean
all: build

build:
	@scripts/setup
	@mkdir -p build
	@test -e $(BUILD)/build.ninja || { $(call configure,-DPLAIT_TESTS=OFF -DPLAIT_BENCH=OFF); }
	@cmake --build $(BUILD) --target plait

train: build
	@$(BUILD)/bin/plait train $(JOB) --overwrite
ifeq ($(JOB),examples/bible.toml)
	@printf '\ntry next:\n'
	@printf '  %s\n' '$(BUILD)/bin/plait sample runs/bible --prompt "In the beginning"' \
	  '$(BUILD)/bin/plait view runs/bible/last_step.json --out runs/last_step.html   (open it in a browser)' \
	  '$(BUILD)/bin/plait compare --measure $(JOB) --schedules 1f1b,zbv --steps 5   (a minute)'
endif

# The command with CUDA, against a torch of its own (docs/gpu.md).
cuda:
	@scripts/setup --cuda
	@mkdir -p build
	@test -e build/cuda/build.ninja || { cmake --preset cuda -DPLAIT_TESTS=OFF >build/cuda.log 2>&1 || { cat build/cuda.log; exit 1; }; }
	@cmake --build build/cuda --target plait

test:
	@scripts/setup --tests
	@mkdir -p build
	@test -e $(BUILD)/build.ninja || { $(call configure,-DPLAIT_BENCH=OFF); }
	@grep -q '^PLAIT_TESTS:BOOL=ON' $(BUILD)/CMakeCache.txt || { $(call configure,-DPLAIT_TESTS=ON); }
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --output-on-failure -j$$((2 * $$(nproc)))

ci: ; @.ci/run

clean: ; rm -rf build
