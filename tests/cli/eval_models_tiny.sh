# Several models in one run of niah and ppl: records carry the model, tables have a row for each model and configuration,
# models can be added later, and each case is what a run of that model alone gives.
. "$SOURCE_DIR/tests/cli/lib.bash"
tiny=$REATTN_TINY_DIR
prose 100 >text.txt
small=(--chunk 64 --keep 8 --local 128 --recall-max 8 --recall-span 16 -q --no-timings --haystack text.txt)
niah=(eval niah "${small[@]}" --lengths 600 --depths 0,50 -n 4 --policy reattention,streaming)
run 0 "${niah[@]}" -m "$tiny/llama.gguf" --out one.jsonl
has out 'reattention, text.txt: % exact by length and depth, 2 cases'
cp one.jsonl both.jsonl
run 0 "${niah[@]}" -m "$tiny/llama.gguf" -m "$tiny/qwen2.gguf" --out both.jsonl
has out 'llama.gguf, reattention, text.txt: % exact by length and depth, 2 cases'
has out 'text.txt: % exact by model, config and length, 8 cases'
has out 'qwen2.gguf, streaming'
run 0 "${niah[@]}" -m "$tiny/qwen2.gguf" --out two.jsonl
{ cat one.jsonl; tail -n +2 two.jsonl; } >joined.jsonl
same joined.jsonl both.jsonl
# Another model under a name that is there is refused.
mkdir other
cp "$tiny/qwen2.gguf" other/llama.gguf
fails 2 'another model named llama.gguf' "${niah[@]}" -m other/llama.gguf --out both.jsonl

ppl=(eval ppl "${small[@]}" --lengths 300 --bucket 100 --policy full,native)
run 0 "${ppl[@]}" -m "$tiny/llama.gguf" -m "$tiny/qwen2.gguf" --out ppl.jsonl --json
holds out 'd["tables"][0]["cases"] == 12 and
    d["tables"][0]["rows"]["0"].keys() == {m + ".gguf, " + c for m in ("llama", "qwen2") for c in ("full", "native")}'
run 0 "${ppl[@]}" -m "$tiny/qwen2.gguf" --out alone.jsonl
tail -n +8 ppl.jsonl >second
tail -n +2 alone.jsonl >third
same second third
run 0 eval plot ppl.jsonl -o ppl.svg

# A variable gives one model; what is typed goes before it.
export REATTN_ARG_MODEL=$tiny/none.gguf
run 0 "${niah[@]}" -m "$tiny/llama.gguf" --out env.jsonl
same one.jsonl env.jsonl
export REATTN_ARG_MODEL=$tiny/llama.gguf
run 0 "${niah[@]}" --out env2.jsonl
same one.jsonl env2.jsonl
finish
