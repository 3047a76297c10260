#!/usr/bin/env bash
# Who may include and call what (docs: the shape of the code).
#   src/model/ alone knows llama.cpp
#   the programs know the public headers, never src/; of bench/, which knows src/, they know bench.h
#   the library never prints, exits or aborts
#   a file holds one concept: at most 700 lines
set -euo pipefail
cd "$SOURCE_DIR"
failed=0

# rule TEXT HITS: HITS, if any, break the rule.
rule() {
    [ -n "$2" ] || return 0
    printf '%s:\n%s\n' "$1" "$2"
    failed=1
}

folders=(include src)
for folder in common cli server eval bench examples tests fuzz; do
    [ -d "$folder" ] && folders+=("$folder")
done

# code FOLDER...: file:line:text of all C and C++ sources there, without the lines that are comments.
code() {
    find "$@" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort | xargs -r grep -nHE '[^[:space:]]' |
        grep -vE '^[^:]+:[0-9]+:[[:space:]]*(/\*|\*|//)'
}
matching() { grep -E "$1" || true; }
without() { grep -vE "$1" || true; }

llama='^[^:]+:[0-9]+:[[:space:]]*#[[:space:]]*include[[:space:]]*[<"](llama|ggml|gguf)[^>"]*[>"]'
rule 'llama.cpp is included outside src/model' \
    "$(code "${folders[@]}" | matching "$llama" | without '^(src/model|tests)/')"

# A quoted include of a program names a file in its own folder or in common/, which the programs share; what the
# library has is public and in <reattn/...>.
for folder in common cli server eval examples; do
    [ -d "$folder" ] || continue
    rule "$folder/ includes what is not public" "$(
        code "$folder" | sed -nE 's/^([^:]+:[0-9]+):[[:space:]]*#[[:space:]]*include[[:space:]]*"([^"]+)".*/\1 \2/p' |
            while read -r where file; do
                { [ -f "$(dirname "${where%%:*}")/$file" ] || [ -f "common/$file" ]; } && [[ $file != *..* ]] ||
                    echo "$where: \"$file\""
            done
        code "$folder" | matching '#[[:space:]]*include *<(src|model|session|policy|attend|select|kv|cpu|base)/'
        code "$folder" | matching '#[[:space:]]*include *<bench/' | without '<bench/bench\.h>'
    )"
done

output='(^|[^[:alnum:]_])(printf|vprintf|puts|putchar|perror|exit|_exit|_Exit|quick_exit|abort|assert)[[:space:]]*\('
rule 'the library prints, exits or aborts' \
    "$(code src include | matching "$output|[^[:alnum:]_](stdout|stderr)([^[:alnum:]_]|$)")"

rule 'files of more than 700 lines' "$(
    find "${folders[@]}" cmake scripts CMakeLists.txt -type f \
        \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.py' -o -name '*.sh' -o -name '*.cmake' \) \
        -exec wc -l {} + | awk '$1 > 700 && $2 != "total" {print $2 ": " $1}')"

exit $failed
