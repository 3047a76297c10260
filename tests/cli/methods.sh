# Every method answers from a text that is longer than what it is told the model was trained on.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

prose 18 >text
args=(-m "$model" --temp 0 -n 4 -q --raw -f text --ctx-train 256 --chunk 64 --tail 16)
"${REATTN_PYTHON:-python3}" "$SOURCE_DIR/scripts/clex_file.py" clex.gguf --random 3 --dim 64

for policy in lm-infinite selfextend dca string mesa ntk dynamic-ntk yarn mspoe; do
    run 0 run "${args[@]}" --policy $policy --json
    holds out 'd["predicted_tokens"] == 4 and d["prompt_tokens"] > 300 and d["policy"] == "'$policy'"'
    cp out "$policy.json"
done
run 0 run "${args[@]}" --policy clex --clex clex.gguf --json
holds out 'd["predicted_tokens"] == 4'

# The scope is what the last query sees: the first G and the last L, or everything.
holds lm-infinite.json 'd["scope"] == 32 + 256'
holds yarn.json 'd["scope"] == d["prompt_tokens"] + 3'

# Without what was trained there is no clex; a model without it in its file says so.
fails 2 'clex.up' run "${args[@]}" --policy clex
fails 1 'no-such-file' run "${args[@]}" --policy clex --clex no-such-file
fails 2 '--local 300' run "${args[@]}" --policy lm-infinite --local 300
finish
