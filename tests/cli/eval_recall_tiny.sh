# eval recall on a tiny model: what is in scope by rule is reported so, and shares agree with the layers they are of.
. "$SOURCE_DIR/tests/cli/lib.bash"
model=$REATTN_TINY_DIR/llama.gguf
prose 400 >text.txt
# 3 layers, 2 KV heads. The needle at 100 % lies in the last 220 tokens, that at 0 % begins in the first 32.
run 0 eval recall -m "$model" -q --no-timings -n 1 --lengths 900 --depths 0:100:25 --haystack text.txt --chunk 64 \
    --local 220 --recall-max 3 --recall-span 64 --config layer: --config head:recall-per=head,recall-max=2 --policy full,streaming \
    --out r.jsonl --prompts prompts
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
holds r.json 'all(32 <= a and a + n <= c["prompt_tokens"] - 220 and 1 <= k <= 3 for c in d[1:] for a, n, k in c["recalled"])'
holds r.json 'all(sum(n * k for a, n, k in c["recalled"]) <= 3 * 3 * 64 for c in d[1:] if c["config"] == "layer")'
# The exact attention that was in scope, by layer and head: all of it where the scope is everything; the means are those
# of what they are of; beyond the trained length, 512 tokens, there are no rotations to speak of.
has out 'full, text.txt: % of the exact attention in scope by layer and head, 5 cases'
holds r.json 'all(len(c["mass_heads"]) == 3 and all(len(row) == 4 for row in c["mass_heads"]) for c in d[1:])'
holds r.json 'all(abs(sum(row) / 4 - m) < 2e-6 for c in d[1:] for row, m in zip(c["mass_heads"], c["mass_layers"]))'
holds r.json 'all(abs(sum(c["mass_layers"]) / 3 - c["mass_share"]) < 2e-6 for c in d[1:])'
holds r.json 'all(c["mass_share"] == 1 and c["everything"] for c in d[1:] if c["config"] == "full")'
holds r.json 'all(0 < m < 1 for c in d[1:] if c["config"] != "full" for row in c["mass_heads"] for m in row)'
holds r.json 'not any(c["everything"] for c in d[1:] if c["config"] != "full") and not any("rotated_share" in c for c in d[1:])'
# Recalled spans add to what first and last tokens hold; the first layer sees the same queries and keys either way.
holds r.json 'all(a["mass_layers"][0] > b["mass_layers"][0] for a in d[1:] for b in d[1:]
    if a["config"] == "layer" and b["config"] == "streaming" and a["depth"] == b["depth"])'
# The passages recalled most, in the words of the text.
holds r.json 'all(p["text"] in open("prompts/text.txt/900/%d/1.txt" % c["depth"]).read().replace("\n", " ")
    for c in d[1:] for p in c["passages"])'
holds r.json 'all(1 <= len(c["passages"]) <= 3 for c in d[1:] if c["recalled"])'
run 0 eval recall -m "$model" -q --no-timings -n 1 --lengths 400 --depths 50 --haystack text.txt --chunk 64 --local 128 \
    --policy full,streaming,native --out short.jsonl --json
{ echo '['; sed '$!s/$/,/' short.jsonl; echo ']'; } >short.json
holds short.json 'd[1]["rotated_share"] == 1 and 0 < d[2]["rotated_share"] < 1 and len(d[2]["rotated_heads"]) == 3'
holds short.json '"mass_share" not in d[3] and "rotated_share" not in d[3] and d[3]["config"] == "native"'
finish
