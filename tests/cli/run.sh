# One answer: text, JSON, where text comes from, grammars.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

run 0 run -m "$model" -p 'What is the capital of France? Answer in one word.' --temp 0 -n 16
has out Paris
has err 'scope 32 + 127 x 32 + 512 = 4608 of 8192'
has err 'tok/s'
run 0 run -m "$model" -p 'What is the capital of France? Answer in one word.' --temp 0 -n 16 -q
has out Paris
[ ! -s err ] || complain "--quiet should be quiet:" "$(cat err)"

run 0 run -m "$model" --raw -p 'one two three four' --temp 0 -n 4 --json -q
holds out 'sorted(d) == sorted(["text", "prompt_tokens", "predicted_tokens", "stop", "policy", "scope", "timings"])'
holds out 'sorted(d["timings"]) == sorted(["prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second",
    "select_ms", "attend_ms", "device_ms"])'
holds out 'd["text"] and d["prompt_tokens"] == 4 and d["predicted_tokens"] == 4'
holds out 'd["stop"] == "limit" and d["policy"] == "reattention" and d["timings"]["prompt_per_second"] > 0'

# Where the layers lie is said, and where they attend.
run 0 run -m "$model" --raw -p 'one two three four' --temp 0 -n 4 -ngl all -v
grep -qE '^-ngl: this libllama has no backend for a GPU|^30 of 30 layers attend on the GPU|layers on a GPU attend on the CPU' err ||
    complain "$what: nothing is said of -ngl:" "$(grep -i gpu err)"

# Files, standard input and the prompt are joined by one blank line.
printf 'one two\n' >a.txt
printf 'one two\n\nthree\n\nfour' >joined.txt
echo three | "$REATTN" run -m "$model" --raw -f a.txt -f - -p four --temp 0 -n 8 -q >parts
run 0 run -m "$model" --raw -f joined.txt --temp 0 -n 8 -q
same parts out

printf 'root ::= "yes" | "no"\n' >answer.gbnf
run 0 run -m "$model" -p 'Is the sea wet?' --grammar-file answer.gbnf -n 8 -q
grep -qxE 'yes|no' out || complain "the grammar allows yes and no:" "$(cat out)"
printf 'root ::= "unfinished\n' >bad.gbnf
run 1 run -m "$model" -p x --grammar-file bad.gbnf -q
has err 'reattn: bad.gbnf: '
finish
