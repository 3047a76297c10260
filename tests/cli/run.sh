# One answer: text, JSON, where text comes from, and the same bits for any number of threads.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

run 0 run -m "$model" -p 'What is the capital of France? Answer in one word.' --temp 0 -n 16
has out Paris
has err 'scope 32 + 127 x 32 + 4096 = 8192 of 8192'
has err 'tok/s'
run 0 run -m "$model" -p 'What is the capital of France? Answer in one word.' --temp 0 -n 16 -q
has out Paris
[ ! -s err ] || complain "--quiet should be quiet:" "$(cat err)"

run 0 run -m "$model" --raw -p 'one two three four' --temp 0 -n 4 --json -q
holds out 'sorted(d) == sorted(["text", "prompt_tokens", "predicted_tokens", "stop", "policy", "scope", "timings"])'
holds out 'sorted(d["timings"]) == sorted(["prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second",
    "select_ms", "attend_ms"])'
holds out 'd["text"].startswith(" five") and d["prompt_tokens"] == 4 and d["predicted_tokens"] == 4'
holds out 'd["stop"] == "limit" and d["policy"] == "reattention" and d["timings"]["prompt_per_second"] > 0'

# Files, standard input and the prompt are joined by one blank line.
printf 'one two\n' >a.txt
printf 'one two\n\nthree\n\nfour' >joined.txt
echo three | "$REATTN" run -m "$model" --raw -f a.txt -f - -p four --temp 0 -n 8 -q >parts
run 0 run -m "$model" --raw -f joined.txt --temp 0 -n 8 -q
same parts out

# Recalls happen: the local window is shorter than the text.
prose 80 >long.txt
for threads in 1 2; do
    run 0 run -m "$model" -f long.txt -p 'What did the keeper write?' --temp 0 -n 12 -q -t $threads \
        --chunk 128 --keep 8 --local 256 --recall-max 8
    mv out answer.$threads
done
[ -s answer.1 ] || complain 'the answer is empty'
same answer.1 answer.2
run 0 run -m "$model" --raw -p 'Once upon a time' --temp 1 -s 7 -n 12 -q
cp out first
run 0 run -m "$model" --raw -p 'Once upon a time' --temp 1 --seed=7 -n 12 -q
same first out

printf 'root ::= "yes" | "no"\n' >answer.gbnf
run 0 run -m "$model" -p 'Is the sea wet?' --grammar-file answer.gbnf -n 8 -q
grep -qxE 'yes|no' out || complain "the grammar allows yes and no:" "$(cat out)"
printf 'root ::= "unfinished\n' >bad.gbnf
fails 1 'bad.gbnf' run -m "$model" -p x --grammar-file bad.gbnf -q
finish
