#!/usr/bin/env bash
# The needle of the demo at other lengths and depths: needles.sh CHARACTERS DEPTH... [-- options of reattn run]
# E.g. needles.sh 70000 0.1 0.4 0.7 0.9; 136000 characters are about 31,000 tokens. One line of JSON each.
set -euo pipefail
cd "$(dirname "$0")/.."
characters=$1
shift
depths=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    depths+=("$1")
    shift
done
[ $# -gt 0 ] && shift
mkdir -p .deps/demo
for depth in "${depths[@]}"; do
    python3 scripts/haystack.py "$characters" "$depth" .deps/demo/needle.txt
    printf '%s ' "$depth"
    build/reattn run -m .deps/smollm2-135m.gguf -f .deps/demo/needle.txt --raw -n 12 --temp 0 --json -q "$@" \
        -p $'Question: What is the special magic Berlin number?\nAnswer: The special magic Berlin number is:'
done
