# eval ppl on a tiny model: a scope that covers everything predicts what full attention does, bit for bit; a run that was
# cut off goes on to the same file.
. "$SOURCE_DIR/tests/cli/lib.bash"
model=$REATTN_TINY_DIR/llama.gguf
prose 100 >text.txt
same_lines() { { echo '['; sed '$!s/$/,/' "$1"; echo ']'; } >lines.json; }
ppl=(eval ppl -m "$model" -q --no-timings --lengths 700 --bucket 100 --text text.txt --chunk 64)
run 0 "${ppl[@]}" --kl --config all:local=417,recall-max=0 --config few:local=64,recall-max=2,keep=4 --policy native,full \
    --out whole.jsonl
same_lines whole.jsonl
has out 'text.txt: perplexity by position and config, 28 cases'
holds lines.json '[c["position"] for c in d[1:8]] == [0, 100, 200, 300, 400, 500, 600] and len(d) == 29'
holds lines.json '[c["tokens"] for c in d[1:8]] == [99, 100, 100, 100, 100, 100, 100]'
holds lines.json 'all(abs(__import__("math").exp(c["nll"]) / c["ppl"] - 1) < 1e-6 for c in d[1:])'
# The tiny model was "trained" on 512 tokens: KL up to there.
holds lines.json 'all(("kl" in c) == (c["position"] <= 500) for c in d[1:])'
holds lines.json 'all(c["kl"] == 0 and c["same_top"] == 1 for c in d[1:] if c["config"] == "full" and "kl" in c)'
holds lines.json 'all(c["kl"] == 0 for c in d[1:] if c["config"] == "all" and c["position"] < 400)'
holds lines.json '{c["position"]: c["nll"] for c in d[1:] if c["config"] == "all" and c["position"] < 400} ==
    {c["position"]: c["nll"] for c in d[1:] if c["config"] == "full" and c["position"] < 400}'
holds lines.json 'all(0 < c["kl"] < 0.01 for c in d[1:] if c["config"] == "native" and "kl" in c)'
holds lines.json 'all(c["kl"] > 0.01 for c in d[1:] if c["config"] == "few" and c["position"] in (200, 300, 400))'
head -c $(($(head -n 13 whole.jsonl | wc -c) + 10)) whole.jsonl >cut.jsonl
run 0 "${ppl[@]}" --kl --config all:local=417,recall-max=0 --config few:local=64,recall-max=2,keep=4 --policy native,full \
    --out cut.jsonl
same whole.jsonl cut.jsonl
fails 2 'fewer than --lengths 9000' "${ppl[@]}" --lengths 9000
fails 2 'there would be no result' "${ppl[@]}" --bucket 701
finish
