# eval recall on a tiny model: what is in scope by rule is reported so, and shares agree with the layers they are of.
. "$SOURCE_DIR/tests/cli/lib.bash"
model=$REATTN_TINY_DIR/llama.gguf
prose 400 >text.txt
# 3 layers, 2 KV heads. The needle at 100 % lies in the last 256 tokens, that at 0 % begins in the first 32.
run 0 eval recall -m "$model" -q --no-timings -n 1 --lengths 900 --depths 0:100:25 --haystack text.txt --chunk 64 \
    --local 256 --recall-max 3 --recall-span 64 --config layer: --config head:recall-per=head,recall-max=2 --policy full,streaming \
    --out r.jsonl
{ echo '['; sed '$!s/$/,/' r.jsonl; echo ']'; } >r.json
has out '% of layers and heads that hold the number'
holds r.json 'len(d) == 1 + 4 * 5 and all(len(c["layers"]) == 3 for c in d[1:])'
holds r.json 'all(c["value_share"] == 1 and c["needle_share"] == 1 for c in d[1:] if c["config"] == "full" or c["depth"] == 100)'
holds r.json 'all(c["value_share"] == 0 and not c["recalled"] for c in d[1:]
    if c["config"] == "streaming" and c["depth"] in (25, 50))'
holds r.json 'all(0 < c["needle_share"] < 1 and c["needle_token"] == 0 for c in d[1:]
    if c["config"] == "streaming" and c["depth"] == 0)'
holds r.json 'all(abs(sum(c["layers"]) / 3 - c["value_share"]) < 1e-6 for c in d[1:])'
holds r.json 'all(x in (0, 1) for c in d[1:] if c["config"] == "layer" for x in c["layers"])'
# Spans: ascending, of the middle, at most 3 of 64 tokens a layer.
holds r.json 'all(c["recalled"] for c in d[1:] if c["config"] in ("layer", "head"))'
holds r.json 'all(32 <= a and a + n <= c["prompt_tokens"] - 256 and 1 <= k <= 3 for c in d[1:] for a, n, k in c["recalled"])'
holds r.json 'all(sum(n * k for a, n, k in c["recalled"]) <= 3 * 3 * 64 for c in d[1:] if c["config"] == "layer")'
finish
