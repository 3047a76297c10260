# --trace: one JSON object per generated token, whose spans lie in the middle and count layers, and one of passages.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

prose 24 >long.txt
run 0 run -m "$model" -f long.txt -p 'What did the keeper write?' --temp 0 -n 6 --json -q --trace trace.jsonl \
    --chunk 64 --keep 8 --local 128 --recall-max 8 --recall-span 16
mv out answer.json
{ echo '['; sed '$d' trace.jsonl | sed '$!s/$/,/'; echo ']'; } >trace.json
tail -n 1 trace.jsonl >last.json
holds last.json 'd["layers"] == 30 and d["keep"] == 8 and d["local"] == 128 and 1 <= len(d["passages"]) <= 6
    and all(0 < p["share"] <= 1 and p["count"] > 0 and p["text"] for p in d["passages"])'
holds trace.json 'len(d) == 6 and all(sorted(t) == ["spans", "text", "token"] for t in d)'
holds trace.json '[t["token"] for t in d] == list(range(d[0]["token"], d[0]["token"] + 6))'
holds trace.json 'all(t["spans"] for t in d)'
# Ascending, not overlapping, between the first 8 tokens and the last 128, chosen by 1 to 30 layers.
holds trace.json 'all(8 <= s["first"] and s["count"] > 0 and s["first"] + s["count"] <= t["token"] - 128
    and 1 <= s["layers"] <= 30 for t in d for s in t["spans"])'
holds trace.json 'all(a["first"] + a["count"] <= b["first"] for t in d for a, b in zip(t["spans"], t["spans"][1:]))'
# At most 8 spans of 16 tokens a layer.
holds trace.json 'all(sum(s["count"] * s["layers"] for s in t["spans"]) <= 30 * 8 * 16 for t in d)'
cat >check.json <<END
{"answer": $(cat answer.json), "trace": $(cat trace.json)}
END
holds check.json '"".join(t["text"] for t in d["trace"]) == d["answer"]["text"]
    and d["trace"][0]["token"] == d["answer"]["prompt_tokens"]'
fails 1 'nowhere/trace.jsonl' run -m "$model" -p x -n 1 -q --trace nowhere/trace.jsonl
finish
