#!/usr/bin/env bash
# Builds libllama with its CUDA backend: cuda-libllama.sh [-s SOURCE] [-o PREFIX] [CMAKE OPTION...]
#
#   -s SOURCE   a folder of llama.cpp's sources; without it, those that llama-cpp-python carries are fetched with pip
#   -o PREFIX   where to install (default: .deps/cuda)
#
# Needs nvcc, CMake and ninja. It takes about an hour of one core, less for one kind of GPU: -DCMAKE_CUDA_ARCHITECTURES=90a-real
# (H100, H200), 89-real, 86-real, ...; by default the GPU of this machine. libllama's own flash attention, which only
# --policy native uses at length, is half of that: -DGGML_CUDA_FA=OFF leaves it out. Afterwards:
#
#   cmake -S . -B build -G Ninja -DCMAKE_PREFIX_PATH="$PWD/.deps/cuda" -DREATTN_CUDA=ON && ninja -C build
set -euo pipefail

version=0.3.36
root=$(cd "$(dirname "$0")/.." && pwd)
prefix=$root/.deps/cuda
source=
fail() { printf 'cuda-libllama: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 1 ] && { [ "$1" = -s ] || [ "$1" = -o ]; }; do
    case $1 in
    -s) source=$(cd "$2" && pwd) ;;
    -o) mkdir -p "$2" && prefix=$(cd "$2" && pwd) ;;
    esac
    shift 2
done
for tool in cmake ninja nvcc; do
    command -v $tool >/dev/null || fail "$tool is missing (nvcc comes with the CUDA toolkit, often in /usr/local/cuda/bin)"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$source" ]; then
    python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$work" llama-cpp-python==$version
    tar -xzf "$work"/llama_cpp_python-$version.tar.gz -C "$work"
    source=$work/llama_cpp_python-$version/vendor/llama.cpp
fi
[ -f "$source/include/llama.h" ] || fail "$source has no include/llama.h: not llama.cpp's sources"

export CXXFLAGS="-include '$root/cmake/tile_config.h' ${CXXFLAGS-}"
# The libraries find each other beside themselves, so that the folder can be moved.
cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" \
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_INSTALL_RPATH="\$ORIGIN" -DBUILD_SHARED_LIBS=ON -DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF \
    -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
    -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF "$@" >"$work/log" || { cat "$work/log" >&2; fail "CMake failed"; }
ninja -C "$work/build"
cmake --install "$work/build" >/dev/null
printf 'installed in %s\n' "$prefix" >&2
