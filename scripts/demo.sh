#!/usr/bin/env bash
# A needle in 16,000 tokens of essays, asked of a model trained on 8,192: once with ReAttention, once with
# streaming, which recalls nothing. Fails if ReAttention does not find it.
set -euo pipefail
cd "$(dirname "$0")/.."

model=.deps/smollm2-135m.gguf
dir=.deps/demo
text=$dir/essays.txt
needle=7391524
mkdir -p $dir

# At 40 % of the text, between two paragraphs.
python3 scripts/haystack.py 72000 0.4 $text
question=$'Question: What is the special magic Berlin number?\nAnswer: The special magic Berlin number is:'

ask() { # ask POLICY
    printf '== %s: reading %s, a few minutes on 2 cores\n' "$1" $text >&2
    build/reattn run -m $model -f $text -p "$question" --raw -n 16 --temp 0 --policy "$1" --json >"$dir/$1.json"
}
ask reattention
ask streaming

python3 - $dir $needle <<'PYTHON'
import json, sys
dir, needle = sys.argv[1:]
print(f'\nQuestion: "What is the special magic Berlin number?"  In the text: {needle}\n')
print(f'{"policy":<13}{"answer":<24}{"prompt tokens":>14}{"scope":>8}{"seconds":>9}{"tokens/s":>10}')
found = {}
for policy in "reattention", "streaming":
    with open(f"{dir}/{policy}.json", encoding="utf-8") as file:
        run = json.load(file)
    time = run["timings"]
    answer = run["text"].strip().split("\n")[0]
    seconds = (time["prompt_ms"] + time["predicted_ms"]) / 1000
    print(f'{policy:<13}{answer[:22]:<24}{run["prompt_tokens"]:>14}{run["scope"]:>8}{seconds:>9.1f}'
          f'{time["prompt_per_second"]:>10.0f}')
    found[policy] = needle in run["text"]
sys.exit(not found["reattention"])
PYTHON
