# bench e2e measures every policy at every depth, and several sessions in one step.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

run 0 bench e2e -m "$model" --policy native,reattention --depths 256,0 -p 64 -n 4 -r 1 --json -q
holds out '[(r["policy"], r["depth"]) for r in d["rows"]] == [
    ("native", 0), ("native", 256), ("reattention", 0), ("reattention", 256)]'
holds out 'all(r[key] > 0 for r in d["rows"] for key in ("prompt_per_second", "predicted_per_second", "prompt_ratio"))'
holds out 'd["rows"][0]["prompt_ratio"] == 1 and d["rows"][3]["store_bytes"] > 0'
# The parts of a step add up; what libllama does by itself is all "model".
holds out 'all(t["model_ms"] > 0 and abs(t["total_ms"] - sum(t[k] for k in ("select_ms", "attend_ms", "append_ms", "device_ms", "model_ms")))
    < 1e-6 for r in d["rows"] for t in (r["prompt_token"], r["predicted_token"]))'
holds out 'd["rows"][0]["predicted_token"]["attend_ms"] == 0 and d["rows"][3]["predicted_token"]["attend_ms"] > 0'

# llama.cpp's other settings, and a depth made of copies.
run 0 bench e2e -m "$model" --policy native,reattention --depths 0,64,300 -p 8 -n 2 -r 1 --native-variants --synthetic 64 \
    --csv rows.csv --json -q
holds out '[r["policy"] for r in d["rows"]] == [p for p in ("native", "native-nofa-f16", "native-fa-q8_0",
    "native-nofa-q8_0k", "reattention") for depth in range(3)]'
holds out 'all(r["synthetic"] == (r["depth"] == 300) for r in d["rows"]) and d["synthetic_from"] == 64'
holds out 'all(max(r["predicted_ratio_best"] for r in d["rows"] if r["depth"] == depth and r["policy"][:6] == "native") == 1
    for depth in (0, 64, 300))'
holds out 'all(r["predicted_ratio_best"] <= r["predicted_ratio"] * 1.000001 for r in d["rows"])'
head -n 1 rows.csv | grep -q '^model,cpu_level,threads,policy,depth,synthetic,prompt_per_second,' ||
    complain "$what: the first line of rows.csv:" "$(head -n 1 rows.csv)"
[ "$(wc -l <rows.csv)" -eq 16 ] || complain "$what: rows.csv should have 16 lines:" "$(cat rows.csv)"
[ "$(awk -F, '{print NF}' rows.csv | sort -u)" = 19 ] || complain "$what: 19 columns expected:" "$(cat rows.csv)"
fails 2 'needs native among the policies' bench e2e -m "$model" --policy full --native-variants
fails 1 'none/rows.csv: ' bench e2e -m "$model" --policy native --csv none/rows.csv

# Several sessions: tokens a second of all, in one step and one after another.
run 0 bench e2e -m "$model" --policy native,reattention --depths 0,96 -p 8 -n 3 -r 2 --sessions 3,1 --json -q
holds out '[(r["policy"], r["depth"], r["sessions"]) for r in d["sessions"]] == [
    (p, depth, n) for p in ("native", "reattention") for depth in (0, 96) for n in (1, 3)]'
holds out 'all(r["together_per_second"] > 0 and abs(r["ratio"] - r["together_per_second"] / r["in_turn_per_second"]) < 1e-6
    for r in d["sessions"]) and len(d["rows"]) == 4'
run 0 bench e2e -m "$model" --policy streaming --depths 40 -p 8 -n 2 -r 1 --sessions 2 --synthetic 20
has out 'tokens/s of all'
has out 'streaming         |       40* |        2 | '
fails 2 '--sessions' bench e2e -m "$model" --sessions 0
fails 2 '--sessions' bench e2e -m "$model" --sessions 65

prose 10 >text.txt
run 0 bench e2e -m "$model" --policy full --depths 0 -p 16 -n 2 -r 1 -f text.txt
has out 'text: text.txt'
has out 'full '
run 0 bench e2e -m "$model" --policy native --depths 40 -p 16 -n 2 -r 1 --synthetic 20 -fa off
has out '     40* |'
has out 'copies of the keys and values of the first 20 tokens'
fails 1 'requires flash_attn' bench e2e -m "$model" --policy native -fa off -ctv q8_0
finish
