# make            build the libraries
# make demo       install into target/prefix and run examples/flights against it, and examples/logbook, which is killed
# make test       everything that must hold; STEPS="..." runs some of the steps, tools/test --list names them
# make bench      khonsu beside its peers, and how often it aborts: target/bench/report.md; QUICK=1 for a short run
# make soak       random histories against the isolation levels, and processes that are killed, also those of distributed
#                 transactions with PostgreSQL; SEED=... for the latter
# make schedules  schedules of whole transactions under shuttle; SEED=... repeats a failure
# make freeze     threads stopped at random steps, in Rust and in C++
# make fuzz       the fuzzers of the C API; TARGET=... for one of them, see fuzz/README.md
# make histories  OUT=folder LEVEL=serializable SEED=1 N=100: histories in dbcop's JSON format, for other checkers
# make install    PREFIX=/usr/local by default
# make format     format the Rust code
# make header     generate include/khonsu.h anew from src/ffi
# make clean
#
# soak, freeze and fuzz go on for BUDGET=90s, 10m or 2h, schedules for as long in each scenario. Everything that is built
# goes below target/; missing tools are installed (tools/setup).

.DEFAULT_GOAL := build
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
PREFIX ?= /usr/local

LOCAL_PREFIX := $(CURDIR)/target/prefix
EXAMPLES := target/examples
BUDGET ?= 1m
SECONDS = $(shell tools/seconds $(BUDGET))
OUT ?= target/histories
LEVEL ?= serializable
N ?= 100
BENCH_ARGUMENTS := $(if $(QUICK),--quick)

build:
	tools/setup build
	cmake -S . -B target/build -DCMAKE_BUILD_TYPE=Release
	cmake --build target/build

install: build
	cmake --install target/build --prefix $(PREFIX)

# The local installation that demo, test and bench find_package.
local-install: build
	cmake --install target/build --prefix $(LOCAL_PREFIX)

demo: local-install
	tools/setup demo
	cmake -S examples/flights -B $(EXAMPLES)/flights -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=$(LOCAL_PREFIX)
	cmake --build $(EXAMPLES)/flights
	$(EXAMPLES)/flights/flights examples/data/flights-200k.arrow $(EXAMPLES)/flights-by-hour.arrow
	cmake -S examples/logbook -B $(EXAMPLES)/logbook -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=$(LOCAL_PREFIX)
	cmake --build $(EXAMPLES)/logbook
	tools/demo-restart $(EXAMPLES)/logbook/logbook examples/data/flights-200k.arrow $(EXAMPLES)/logbook.khonsu

test:
	tools/setup test
	tools/test $(STEPS)

soak: local-install
	tools/setup soak
	KHONSU_BUDGET=$(BUDGET) cargo test --locked --profile soak --test histories soak -- --ignored --exact --nocapture
	cmake -S cpp_tests -B target/tests/soak -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH=$(LOCAL_PREFIX)
	cmake --build target/tests/soak --target cpp_crash_test --target cpp_prepared_crash_test --target xa_crash_test
	cd target/tests/soak && ./cpp_crash_test 1000000000 $(SECONDS) $(or $(SEED),$(shell date +%s))
	cd target/tests/soak && ./cpp_prepared_crash_test 1000000000 $(SECONDS) $(or $(SEED),$(shell date +%s))
	cd target/tests/soak && ./xa_crash_test . 1000000000 $(SECONDS) $(or $(SEED),$(shell date +%s))

schedules:
	tools/setup build
	KHONSU_SCHEDULES_SECONDS=$(SECONDS) $(if $(SEED),KHONSU_SCHEDULES_SEED=$(SEED)) \
	  cargo test --locked --features shuttle --test schedules

freeze: local-install
	KHONSU_FREEZE_SECONDS=$(SECONDS) cargo test --locked --features fail-points --test freeze -- --nocapture
	cmake -S cpp_tests -B target/tests/freeze -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH=$(LOCAL_PREFIX)
	cmake --build target/tests/freeze --target cpp_freeze_test
	target/tests/freeze/cpp_freeze_test 1000000000 $(SECONDS)

fuzz:
	tools/setup fuzz
	tools/fuzz $(BUDGET) $(TARGET)

histories:
	tools/setup build
	KHONSU_OUT=$(abspath $(OUT)) KHONSU_LEVEL=$(LEVEL) KHONSU_SEED=$(or $(SEED),1) KHONSU_N=$(N) \
	  cargo test --locked --profile soak --test histories export -- --ignored --exact --nocapture

bench: local-install
	tools/setup bench
	cmake -S benches -B target/bench/build -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=$(LOCAL_PREFIX)
	cmake --build target/bench/build
	target/bench/build/khonsu_bench $(BENCH_ARGUMENTS)
	target/bench/build/khonsu_durable_bench $(BENCH_ARGUMENTS)
	target/bench/build/khonsu_memory_budget_bench $(BENCH_ARGUMENTS)
	cargo bench --profile dev --bench aborts -- $(BENCH_ARGUMENTS) --out $(CURDIR)/target/bench/aborts.md
	cat target/bench/durable.md target/bench/memory_budget.md target/bench/aborts.md >>target/bench/report.md

format:
	cargo fmt

header:
	KHONSU_UPDATE_HEADER=1 cargo test --test header

clean:
	rm -rf target

.PHONY: build install local-install demo test bench soak schedules freeze fuzz histories format header clean
