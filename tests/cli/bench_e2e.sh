# bench e2e measures every policy at every depth.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

run 0 bench e2e -m "$model" --policy native,reattention --depths 256,0 -p 64 -n 4 -r 1 --json -q
holds out '[(r["policy"], r["depth"]) for r in d["rows"]] == [
    ("native", 0), ("native", 256), ("reattention", 0), ("reattention", 256)]'
holds out 'all(r[key] > 0 for r in d["rows"] for key in ("prompt_per_second", "predicted_per_second", "prompt_ratio"))'
holds out 'd["rows"][0]["prompt_ratio"] == 1 and d["rows"][3]["store_bytes"] > 0'
prose 10 >text.txt
run 0 bench e2e -m "$model" --policy full --depths 0 -p 16 -n 2 -r 1 -f text.txt
has out 'text: text.txt'
has out 'full '
finish
