# Ctrl-C in an evaluation: exit code 130 and a line that says how it goes on; the continued file is that of an unbroken run.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model
prose 40 >text.txt
niah=(eval niah -m "$model" -q --no-timings --chunk 64 --keep 8 --local 128 --recall-max 8 --lengths 320 --depths 0:100:20
    --haystack text.txt -n 4)
run 0 "${niah[@]}" --out whole.jsonl
what='reattn eval niah, interrupted'
"$REATTN" "${niah[@]}" --out cut.jsonl >out 2>err &
process=$!
for ((i = 0; i < 300; i++)); do
    [ -f cut.jsonl ] && [ "$(wc -l <cut.jsonl)" -ge 3 ] && break
    sleep 0.05
done
kill -INT $process
wait $process
code=$?
[ $code -eq 130 ] || complain "exit code $code, expected 130:" "$(cat err)"
grep -qE '^reattn: interrupted; [2-5] cases are in cut.jsonl, and the same command goes on$' err || complain "$what:" "$(cat err)"
run 0 "${niah[@]}" --out cut.jsonl
same whole.jsonl cut.jsonl
finish
