#!/usr/bin/env bash
# Builds the engine, without models, and its tests for 64-bit Arm and runs them in an emulator: so kernels for NEON can
# be tested on a machine that has none. First: scripts/bootstrap.sh cross.
#
#   scripts/cross-neon.sh [-R REGEX | other options of ctest]
#
# The build is in $BUILD, or build-neon/. The emulator is 10 to 30 times slower than the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build-neon}

for tool in aarch64-linux-gnu-gcc qemu-aarch64 cmake ninja; do
    command -v $tool >/dev/null || { echo "cross-neon: $tool is missing: run scripts/bootstrap.sh cross" >&2; exit 1; }
done
[ -f .deps/arm64/usr/include/cmocka.h ] ||
    { echo "cross-neon: no cmocka for arm64: run scripts/bootstrap.sh cross" >&2; exit 1; }
cmake -S cmake/neon -B "$build" -G Ninja >/dev/null
cmake --build "$build"

[ -f src/cpu/level_neon.c ] || echo "cross-neon: there is no src/cpu/level_neon.c: only scalar and base are tested"
cd "$build"
ctest --output-on-failure "$@"
