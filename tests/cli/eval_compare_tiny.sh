# eval compare on tiny models: cells agree with the records, what refuses a length gets a dash and no abort, a run that
# was cut off goes on to the same file, and several models cross with the configurations.
. "$SOURCE_DIR/tests/cli/lib.bash"
tiny=$REATTN_TINY_DIR
prose 100 >text.txt
small=(--chunk 64 --keep 8 --local 128 --recall-max 8 --recall-span 16 -q)
both=(eval compare -m "$tiny/llama.gguf" -m "$tiny/qwen2.gguf" "${small[@]}" --lengths 300,900 --depths 0:100:50 --seeds 2
    --haystack text.txt -n 4 --policy reattention,native --config short:policy=full,ctx-size=700)
run 0 "${both[@]}" --no-timings --out whole.jsonl
{ echo '['; sed '$!s/$/,/' whole.jsonl; echo ']'; } >whole.json
# 2 models, 3 configurations, 2 lengths: 3 depths x 2 seeds of needles, 2 seeds of texts.
holds whole.json 'd[0]["task"] == "compare" and "model" not in d[0] and len(d) == 1 + 2 * 3 * 2 * (3 * 2 + 2)'
holds whole.json 'len({c["id"] for c in d[1:]}) == len(d) - 1 and {c["model"] for c in d[1:]} == {"llama.gguf", "qwen2.gguf"}'
holds whole.json 'all(("refused" in c) == (c["config"] == "short" and c["length"] == 900) == ("store_bytes" not in c)
    for c in d[1:])'
holds whole.json 'all("700" in c["refused"] for c in d[1:] if "refused" in c)'
holds whole.json 'all("timings" not in c and "ms" not in c for c in d[1:])'
# The last quarter: exp of the mean of so many log-likelihoods, and near what full attention by libllama gives.
holds whole.json 'all(c["tokens"] == c["length"] // 4 and abs(__import__("math").exp(c["nll"]) / c["ppl"] - 1) < 1e-6
    for c in d[1:] if c["test"] == "ppl" and "ppl" in c)'
holds whole.json 'all(abs(a["nll"] - b["nll"]) < 0.01 for a in d[1:] for b in d[1:] if a["test"] == b["test"] == "ppl"
    and "nll" in a and (a["model"], a["length"], a["seed"]) == (b["model"], b["length"], b["seed"])
    and a["config"] == "short" and b["config"] == "native")'
holds whole.json 'all(c["store_bytes"] > 0 for c in d[1:] if "store_bytes" in c)'
has out 'llama.gguf, reattention |'
has out 'niah@300 |'
grep -E '^ +qwen2.gguf, short \| +[0-9.]+ +- +- +[0-9.]+ \| +- +- +- +- \|' out >line || complain "$what: no dashes in:" "$(cat out)"

# Cut within the second model's cases: the rest is the same, bit for bit.
head -c $(($(head -n 60 whole.jsonl | wc -c) + 30)) whole.jsonl >cut.jsonl
run 0 "${both[@]}" --no-timings --out cut.jsonl --json --picture compare.svg
same whole.jsonl cut.jsonl
python3 - compare.svg <<'END' || complain 'compare.svg is no picture'
import sys, xml.dom.minidom
xml.dom.minidom.parse(sys.argv[1])
END
cat >check.json <<END
{"table": $(cat out), "cases": $(cat whole.json)}
END
holds check.json 'len(d["table"]["rows"]) == 6 and
    d["table"]["rows"]["llama.gguf, short"]["ppl@900"] == {"cases": 0, "refused": 2}'
holds check.json 'all(abs(cell["quality"] - 100 * sum(x) / len(x)) < 1e-6 and cell["cases"] == len(x) == 6
    for row, cells in d["table"]["rows"].items() for name, cell in cells.items() if name[:4] == "niah" and cell["cases"]
    for x in [[c["score"] for c in d["cases"][1:] if c["test"] == "niah" and c["model"] + ", " + c["config"] == row
    and name == "niah@%d" % c["length"]]])'
run 0 eval plot whole.jsonl -o again.svg
run 0 eval plot whole.jsonl -o compare.png

# With times: tokens a second in every cell that was measured. One model: rows are configurations.
run 0 eval compare -m "$tiny/llama.gguf" "${small[@]}" --lengths 300 --depths 50 --haystack text.txt --tasks niah,ppl -n 4 \
    --policy streaming,full --json --out timed.jsonl
holds out 'd["rows"].keys() == {"streaming", "full"} and all(cell[k] > 0 for row in d["rows"].values()
    for cell in row.values() for k in ("prompt_per_second", "predicted_per_second", "store_bytes"))'
# 4 tokens of an answer are 3 steps; 16 follow a text.
{ echo '['; sed '$!s/$/,/' timed.jsonl; echo ']'; } >timed.json
holds timed.json 'len(d) == 5 and all(c["timings"]["decode_tokens"] == {"niah": 3, "ppl": 16}[c["test"]]
    and c["timings"]["read_tokens"] == (192 if c["test"] == "ppl" else c["prompt_tokens"])
    and c["timings"]["read_ms"] > 0 and c["timings"]["decode_ms"] > 0 for c in d[1:])'
run 0 eval compare -m "$tiny/llama.gguf" "${small[@]}" --lengths 300 --haystack text.txt --tasks ppl --json
holds out 'd["rows"]["reattention"].keys() == {"ppl@300"}'
# Memory that does not suffice is refused, too.
run 0 eval compare -m "$tiny/llama.gguf" "${small[@]}" --lengths 300,2000 --depths 50 --haystack text.txt -n 4 --mem-limit 800K --json
holds out '[d["rows"]["reattention"][c]["refused"] for c in ("niah@300", "niah@2000", "ppl@300", "ppl@2000")] == [0, 1, 0, 1]'

fails 2 'there is no mmlu to compare by' eval compare -m "$tiny/llama.gguf" -q --tasks niah,mmlu --haystack text.txt
fails 2 'two models are named llama.gguf' eval compare -m "$tiny/llama.gguf" -m "$tiny/llama.gguf" -q
fails 2 'was begun with question' "${both[@]}" --question 'Which {key}?' --out cut.jsonl
finish
