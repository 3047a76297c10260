# eval ruler on a tiny model: the data set has RULER's form and its rules hold; predictions and a cut run.
. "$SOURCE_DIR/tests/cli/lib.bash"
model=$REATTN_TINY_DIR/llama.gguf
[ -d "$REATTN_ESSAYS" ] || exit 77
ruler=(eval ruler -m "$model" -q --no-timings --lengths 3500)
fails 2 'there is no RULER task qa_3' "${ruler[@]}" --tasks qa_3
fails 2 'more than --lengths 1000' "${ruler[@]}" --tasks vt --lengths 1000 --write data
run 0 "${ruler[@]}" --seeds 3 --write data
for task in niah_single_1 niah_single_2 niah_single_3 niah_multikey_1 niah_multikey_2 niah_multikey_3 niah_multivalue \
    niah_multiquery vt cwe fwe; do
    { echo '['; sed '$!s/$/,/' data/3500/$task/validation.jsonl; echo ']'; } >$task.json
    what="RULER's $task"
    holds $task.json '[s["index"] for s in d] == [0, 1, 2] and all(set(s) == {"index", "input", "outputs", "length"} for s in d)'
    holds $task.json 'all(3000 < s["length"] <= 3500 for s in d) and len({str(s["outputs"]) for s in d}) == 3'
done
for task in niah_single_1 niah_multikey_1 niah_multikey_2 niah_multivalue niah_multiquery; do
    holds $task.json 'all(s["input"].count(": %s." % o) == 1 and len(o) == 7 for s in d for o in s["outputs"])'
done
holds niah_single_3.json 'all(len(o) == 36 and o[14] == "4" and o in s["input"] for s in d for o in s["outputs"])'
holds niah_multivalue.json 'all(len(s["outputs"]) == 4 for s in d)'
# The keys that are asked for are those of the expected values, in that order.
holds niah_multiquery.json 'all([__import__("re").search(r"for (\S+) is: %s\." % o, s["input"])[1] for o in s["outputs"]] ==
    __import__("re").findall(r"[a-z]+-[a-z]+", s["input"].split("numbers for ")[-1]) for s in d)'
holds vt.json 'all(len(s["outputs"]) == 5 and all(("VAR %s = VAR %s " % (b, a)) in s["input"]
    for a, b in zip(s["outputs"], s["outputs"][1:])) for s in d)'
holds cwe.json 'all(sorted(__import__("collections").Counter(__import__("re").findall(r"\d+\. (\w+)",
    s["input"].split("often.\n")[-1])).most_common(10)) == sorted((w, 6) for w in s["outputs"]) for s in d)'
holds fwe.json 'all([w for w, n in __import__("collections").Counter(s["input"].split("words. ")[1].split("\n")[0].split())
    .most_common(4)] == ["..."] + s["outputs"] for s in d)'

some=(--tasks niah_multivalue,fwe --seeds 2 --policy streaming --local 256 --chunk 200 --keep 8)
run 0 "${ruler[@]}" "${some[@]}" --out whole.jsonl --predictions pred
head -c $(($(head -n 3 whole.jsonl | wc -c) + 10)) whole.jsonl >cut.jsonl
run 0 "${ruler[@]}" "${some[@]}" --out cut.jsonl --predictions pred2
same whole.jsonl cut.jsonl
diff -r pred pred2 || complain 'predictions differ after a cut'
python3 - <<'END' || complain 'predictions and data differ'
import json
for task in "niah_multivalue", "fwe":
    made = [json.loads(line) for line in open(f"data/3500/{task}/validation.jsonl")][:2]
    said = [json.loads(line) for line in open(f"pred/streaming/3500/{task}.jsonl")]
    for a, b in zip(made, said, strict=True):
        assert all(a[k] == b[k] for k in a), task
        assert "pred" in b and b["truncation"] == -1
END
finish
