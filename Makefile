# plait: `make train` trains the default job, `make test` runs every test, `make build` builds the command, `make python`
# installs the Python package and tests it.
# Each sets up what is missing first (scripts/setup), builds no more than it needs, and does nothing
# that is done already.
PRESET ?= release
JOB ?= examples/bible.toml
BUILD := build/$(PRESET)

# $(call configure,FLAGS): quiet unless it fails.
configure = cmake --preset $(PRESET) $(1) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }

.PHONY: all build cuda train test python ci clean
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

# The Python package into a venv of its own, with what its tests need; they run against what was installed. The
# project's torch is lent to it.
python:
	@scripts/setup
	@test -x build/python/bin/python || python3 -m venv build/python
	@build/python/bin/python scripts/lend_torch .venv
	@build/python/bin/pip install --quiet --disable-pip-version-check '.[test]'
	@build/python/bin/python -m unittest discover --quiet --start-directory python/tests
	@cd build/python && bin/mypy --strict --config-file ../../pyproject.toml --package plait --package plait_torch
	@build/python/bin/python scripts/make_python_api --check
	@printf '%s\n' 'installed into build/python: build/python/bin/python -c "import plait.pipelining"' \
	  'compiles, proves, prices and draws schedules, and runs them on torch modules'

ci: ; @.ci/run

clean: ; rm -rf build
