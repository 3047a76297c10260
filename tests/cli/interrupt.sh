# Ctrl-C in the middle of a prompt: exit code 130 within seconds, and a line that says how far it came.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

prose 3000 >long.txt
what='reattn run, interrupted'
"$REATTN" run -m "$model" -f long.txt -n 4 >out 2>err &
process=$!
for ((i = 0; i < 150; i++)); do
    grep -q 'per 1000 tokens' err && break
    sleep 0.1
done
sleep 2
kill -INT $process
started=$SECONDS
wait $process
code=$?
[ $code -eq 130 ] || complain "exit code $code, expected 130:" "$(cat err)"
[ $((SECONDS - started)) -le 6 ] || complain "it took $((SECONDS - started)) s to stop"
grep -qE '^reattn: interrupted after [0-9]+ of [0-9]+ tokens of the prompt$' err ||
    complain "standard error:" "$(cat err)"
[ ! -s out ] || complain "standard output should be empty:" "$(cat out)"
finish
