#!/usr/bin/env bash
# What the documents name is there:
#   links lead to files, and to headings that these files have
#   options are those of the program, or of a script in scripts/
#   files in `code`, with a folder, are in the tree
set -euo pipefail
cd "$SOURCE_DIR"
failed=0
complain() {
    printf '%s\n' "$@"
    failed=1
}

mapfile -t documents < <(find . \( -name .deps -o -name 'build*' \) -prune -o -name '*.md' -printf '%P\n' | sort)

# The names that a file's headings have in links.
anchors() {
    sed -nE 's/^#+ +//p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9_ -]//g; s/ /-/g'
}

for document in "${documents[@]}"; do
    while read -r link; do
        file=${link%%#*} target=$document
        [ -z "$file" ] || target=$(dirname "$document")/$file
        [ -e "$target" ] || complain "$document: a link to $link, which is not there"
        if [[ $link == *#* && -f $target ]] && ! anchors "$target" | grep -qxF -- "${link#*#}"; then
            complain "$document: a link to $link: no such heading"
        fi
    done < <(grep -oE '\]\([^) ]+\)' "$document" | sed -E 's/^\]\(//; s/\)$//' | grep -vE '^[a-z]+:' || true)

    # From the root, or as the sources include it; what has NAME in it is an example.
    while read -r file; do
        for folder in . src tests include scripts docs "$(dirname "$document")"; do
            [ ! -e "$folder/$file" ] || continue 2
        done
        complain "$document: \`$file\` is not there"
    done < <(grep -oE '`[[:alnum:]_./-]+/[[:alnum:]_.-]+\.(c|h|cu|cuh|md|sh|py|txt|csv|cmake)`' "$document" | tr -d '`' |
        grep -vE '(^|/)\.deps/|NAME' || true)
done

commands=(run chat info quantize)
for task in bench eval; do
    while read -r name; do
        commands+=("$task $name")
    done < <("$REATTN" $task --help | sed -nE 's/^  ([a-z0-9]+)  .*/\1/p')
done
known=$({
    for command in "${commands[@]}"; do
        # shellcheck disable=SC2086 # a command and its task
        "$REATTN" $command --help
    done
    cat scripts/*
    echo "--version --cflags --libs --output-on-failure" # reattn, pkg-config, ctest
} | grep -oE -- '--[a-z][a-z0-9-]*' | sort -u)

for document in "${documents[@]}"; do
    while read -r option; do
        grep -qxF -- "$option" <<<"$known" || complain "$document: there is no option $option"
    done < <(grep -oE '(^|[^[:alnum:]-])--[a-z][a-z0-9-]*' "$document" | grep -oE -- '--.*' | sort -u)
done
[ "${#commands[@]}" -gt 15 ] || complain "the program's help lists ${#commands[@]} commands and tasks"
exit $failed
