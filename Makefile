# make            build the libraries
# make demo       install into target/prefix and run examples/flights against it
# make test       everything that must hold; STEPS="..." runs some of the steps, tools/test --list names them
# make fuzz       BUDGET=60s fuzz the C API for so long; TARGET=... for one fuzzer, see fuzz/README.md
# make bench      khonsu beside its peers: target/bench/report.md and report.json; QUICK=1 for a short run
# make install    PREFIX=/usr/local by default
# make format     format the Rust code
# make header     generate include/khonsu.h anew from src/ffi
# make clean
#
# Everything that is built goes below target/; missing tools are installed (tools/setup).

.DEFAULT_GOAL := build
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
PREFIX ?= /usr/local

LOCAL_PREFIX := $(CURDIR)/target/prefix
EXAMPLES := target/examples
BUDGET ?= 60s
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

test:
	tools/setup test
	tools/test $(STEPS)

fuzz:
	tools/setup fuzz
	tools/fuzz $(BUDGET) $(TARGET)

bench: local-install
	tools/setup bench
	cmake -S benches -B target/bench/build -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=$(LOCAL_PREFIX)
	cmake --build target/bench/build
	target/bench/build/khonsu_bench $(BENCH_ARGUMENTS)

format:
	cargo fmt

header:
	KHONSU_UPDATE_HEADER=1 cargo test --test header

clean:
	rm -rf target

.PHONY: build install local-install demo test fuzz bench format header clean
