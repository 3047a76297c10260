# lib.bash - for the scripts of this folder, which ctest runs in a fresh folder with REATTN (the program),
# REATTN_TEST_MODEL (SmolLM2-135M) and SOURCE_DIR set. Each says what differed, and exits 1 if anything did.
failed=0

# Threads that wait for each other crawl where cores are shared with other work.
export REATTN_ARG_THREADS=1

complain() {
    printf '%s\n' "$@"
    failed=1
}

# run CODE ARGS...: runs the program with its output in the files out and err, and checks its exit code.
run() {
    local want=$1 got=0
    shift
    what="reattn $*"
    "$REATTN" "$@" >out 2>err || got=$?
    [ "$got" -eq "$want" ] || complain "$what: exit code $got, expected $want; standard error:" "$(cat err)"
}

# fails CODE TEXT ARGS...: as run, and the error is one line "reattn: ..." with TEXT in it, the output empty.
fails() {
    local code=$1 text=$2
    shift 2
    run "$code" "$@"
    [ ! -s out ] || complain "$what: standard output should be empty:" "$(cat out)"
    [ "$(wc -l <err)" -eq 1 ] && grep -q '^reattn: ' err ||
        complain "$what: expected one line 'reattn: ...':" "$(cat err)"
    grep -qF -- "$text" err || complain "$what: expected '$text' in:" "$(cat err)"
}

# has FILE TEXT
has() {
    grep -qF -- "$2" "$1" || complain "$what: expected '$2' in $1:" "$(head -c 2000 "$1")"
}

# same FILE FILE
same() {
    diff -u "$1" "$2" || complain "$what: $1 and $2 differ"
}

# holds FILE EXPRESSION: a Python expression that is true of the JSON value d in the file.
holds() {
    local python=${REATTN_PYTHON:-}
    [ -x "$python" ] || python=python3
    "$python" -c 'import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(not eval("(" + sys.argv[2] + ")"))' "$1" "$2" ||
        complain "$what: $1 should be JSON with $2:" "$(head -c 2000 "$1")"
}

# prose N: N numbered sentences, about 18 tokens each.
prose() {
    local i
    for ((i = 1; i <= $1; i++)); do
        echo "On day $i the keeper of the lighthouse wrote that the sea was calm."
    done
}

# What follows needs the model: without it the script ends here, as skipped unless something failed before.
need_model() {
    [ -f "${REATTN_TEST_MODEL:-}" ] || exit $((failed ? 1 : 77))
    model=$REATTN_TEST_MODEL
}

# The last line of a script.
finish() {
    exit "$failed"
}
