# eval niah on a tiny model, whose answers are noise: records, tables, and that a run that was cut off goes on to the
# same file.
. "$SOURCE_DIR/tests/cli/lib.bash"

fails 2 'reattn eval --help lists' eval
fails 2 'did you mean niah?' eval nia
fails 2 'eval niah needs a model' eval niah
run 0 eval --help
has out 'niah'
model=$REATTN_TINY_DIR/llama.gguf
prose 400 >text.txt
small=(-m "$model" --chunk 64 --keep 8 --local 128 --recall-max 8 --recall-span 16 --no-timings -q)
fails 2 'must ascend' eval niah "${small[@]}" --depths 50,10
fails 2 'must have {key}' eval niah "${small[@]}" --question who
fails 2 'shared or one' eval niah "${small[@]}" --needles two
fails 2 '--config wide: --recall-max 9000000' eval niah "${small[@]}" --config wide:recall-max=9000000
fails 2 'configuration wide: the scope' eval niah "${small[@]}" --config wide:recall-max=1000
fails 2 'NAME:OPTION=VALUE' eval niah "${small[@]}" --config wide:tail
fails 2 'two configurations are named full' eval niah "${small[@]}" --policy full,full
fails 2 'more than --lengths' eval niah "${small[@]}" --lengths 64 --haystack text.txt
fails 1 'nothing.txt' eval niah "${small[@]}" --haystack nothing.txt

grid=(eval niah "${small[@]}" --lengths 600,900 --depths 0:100:50 --seeds 2 --haystack text.txt,repeat)
compare=(--policy reattention --config near:policy=streaming,local=256 -n 6)
run 0 "${grid[@]}" "${compare[@]}" --out whole.jsonl
has out 'reattention, text.txt: % exact by length and depth, 12 cases'
has out 'near, repeat: % exact by length and depth, 12 cases'
{ echo '['; sed '$!s/$/,/' whole.jsonl; echo ']'; } >whole.json
holds whole.json 'd[0]["record"] == "settings" and len(d) == 1 + 2 * 2 * 2 * 2 * 3 and "ms" not in d[1]'
holds whole.json 'len({c["id"] for c in d[1:]}) == len(d) - 1'
holds whole.json 'all(c["length"] - 80 <= c["prompt_tokens"] <= c["length"] for c in d[1:])'
holds whole.json 'd[-1]["options"]["policy"] == "streaming" and d[-1]["options"]["local"] == "256"'

# Cut in the middle of a line, in the middle of a text's questions: the rest is read anew, with the same bits.
head -c $(($(head -n 9 whole.jsonl | wc -c) + 40)) whole.jsonl >cut.jsonl
run 0 "${grid[@]}" "${compare[@]}" --out cut.jsonl
same whole.jsonl cut.jsonl
# Nothing is left to do: the table comes from the file. Other settings are refused.
run 0 "${grid[@]}" "${compare[@]}" --out cut.jsonl --json
holds out '[t["cases"] for t in d["tables"]] == [12, 12, 12, 12, 24, 24]
    and d["tables"][0]["group"] == "reattention, text.txt" and d["tables"][4]["rows"]["near"].keys() == {"600", "900"}'
same whole.jsonl cut.jsonl
fails 2 'was begun with answer_tokens = 6, this run has 5' "${grid[@]}" "${compare[@]}" -n 5 --out cut.jsonl
fails 2 'with other options' "${grid[@]}" --config near:keep=9 -n 6 --out cut.jsonl
fails 1 'line 1 is no record' "${grid[@]}" -n 6 --out text.txt

# Policies that learn from what they read, or drop keys for good: a text that is read once for all its questions gives the
# bits of one that is read anew, as the last questions are here.
learned=(eval niah "${small[@]}" --lengths 900 --depths 0:100:25 --seeds 2 --haystack text.txt -n 6
    --policy infllm,infinipot --pot 400 --pot-keep 150)
run 0 "${learned[@]}" --out learned.jsonl
head -n $(($(wc -l <learned.jsonl) - 7)) learned.jsonl >again.jsonl
run 0 "${learned[@]}" --out again.jsonl
same learned.jsonl again.jsonl
run 2 eval recall "${small[@]}" --lengths 900 --depths 50 --haystack text.txt --policy infinipot \
    --out none.jsonl
has err 'drops keys for good'
fails 2 'drops keys for good' run -m "$model" -p x --raw -n 1 -q --policy infinipot --trace none.jsonl
fails 2 'has no room for text' run -m "$model" -p x --raw -n 1 -q --policy infinipot --catalyst "$(prose 9)"

# The pass key stands where the depth says, and is asked for.
run 0 eval passkey -m "$model" -q --no-timings -n 4 --lengths 1200,1600 --depths 0:100:50 --policy streaming --local 256 \
    --chunk 200 --keep 8 --out key.jsonl --prompts prompts
{ echo '['; sed '$!s/$/,/' key.jsonl; echo ']'; } >key.json
holds key.json 'len(d) == 7 and all(c["length"] - 90 <= c["prompt_tokens"] <= c["length"] for c in d[1:])'
holds key.json 'all(open("prompts/%d/%d/1.txt" % (c["length"], c["depth"])).read().count("The pass key is %s. Remember it. %s is" %
    (c["expected"], c["expected"])) == 1 for c in d[1:])'
holds key.json 'all(abs(t.index("Remember it") / len(t) - (0.15, 0.5, 0.88)[c["depth"] // 50]) < 0.1 for c in d[1:]
    for t in [open("prompts/%d/%d/1.txt" % (c["length"], c["depth"])).read()])'
finish
