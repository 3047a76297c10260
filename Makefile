# make            get what is missing, build in build/
# make demo       a needle in 16,000 tokens, found by a model of 8,000
# make test       the whole suite
# make asan       the suite under the address and undefined behaviour sanitizers; libllama itself is not instrumented
# make install    PREFIX=/usr/local DESTDIR=
# make clean      remove what was built; .deps/ (llama.cpp, model, texts) stays
PREFIX ?= /usr/local
CTEST_FLAGS ?=

all: bootstrap-build build/build.ninja
	@cmake --build build

bootstrap-%:
	@scripts/bootstrap.sh $*

# Once: later, Ninja itself runs CMake when a CMake file or a list of sources has changed.
build/build.ninja:
	@cmake -S . -B build -G Ninja
build-asan/build.ninja:
	@cmake -S . -B build-asan -G Ninja -DREATTN_SANITIZE=ON

demo: bootstrap-demo all
	@scripts/demo.sh

test: bootstrap-test all
	@cd build && ctest --output-on-failure -j1 $(CTEST_FLAGS)

asan: bootstrap-test build-asan/build.ninja
	@cmake --build build-asan
	@cd build-asan && ctest --output-on-failure -j1 $(CTEST_FLAGS)

install: all
	@cmake --install build --prefix $(PREFIX)

clean:
	@rm -rf build build-asan

.PHONY: all demo test asan install clean
# The order of prerequisites matters, and Ninja does the parallel part.
.NOTPARALLEL:
