# eval niah on the small model: a needle that the scope holds is found, and one that it cannot hold is not.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model
prose 60 >text.txt
small=(-m "$model" --chunk 64 --keep 8 --local 160 --recall-max 8 --recall-span 32 -q --lengths 600 --haystack text.txt)
run 0 eval niah "${small[@]}" --policy full,streaming --depths 20,100 --out two.jsonl
{ echo '['; sed '$!s/$/,/' two.jsonl; echo ']'; } >two.json
holds two.json '[(c["config"], c["depth"], c["score"]) for c in d[1:]] == [
    ("full", 20, 1), ("full", 100, 1), ("streaming", 20, 0), ("streaming", 100, 1)]'
holds two.json 'all(c["expected"] in c["answer"] for c in d[1:] if c["score"]) and all(c["ms"] > 0 for c in d[1:])'
holds two.json 'd[1]["key"] != d[2]["key"] and d[1]["expected"] != d[2]["expected"]'
# The classic test: one needle in a text. The chat template goes around text and question.
run 0 eval niah "${small[@]}" --one-needle --chat --policy full --depths 50 --out chat.jsonl
holds <(tail -n 1 chat.jsonl) '540 <= d["prompt_tokens"] <= 600'
finish
