# bench attend times attention over a scope and compares it with the law.
. "$SOURCE_DIR/tests/cli/lib.bash"

run 0 bench attend --keys 600 --scope 256 --queries 1,20 -ctk f16,f32 -ctv f16,q8_0 -r 2 --json
holds out '[(r["type"], r["queries"]) for r in d["rows"]] == [
    ("f16/f16", 1), ("f16/f16", 20), ("f32/q8_0", 1), ("f32/q8_0", 20)]'
holds out 'all(0 < r["error"] < 1e-5 and r["ms"] > 0 and r["scratch_bytes"] > 0 for r in d["rows"])'
# Query t of T does not see the T - 1 - t tokens that come after it.
holds out 'all(abs(r["gflop_per_second"] * r["ms"] * 1e6 / (2 * 128 * 9)
    - sum(256 - r["queries"] + 1 + t for t in range(r["queries"]))) < 1e-3 for r in d["rows"])'
holds out 'all(abs(r["gb_per_second"] * r["ms"] * 1e6 - 3 * 256 * r["bytes_per_key"]) < 1 for r in d["rows"])'

run 0 bench attend --heads 4 --kv-heads 2 --dim 32 --keys 300 --scope 300 --queries 2
has out 'scope 32 + 4 x 32 + 140 = 300 keys'
grep -qE '^ +300 \| +2 \| split/f16 .* [0-9.]+e-0[4-9]$' out || complain "$what: no line of 300 keys:" "$(cat out)"

fails 2 '--keys 100 are fewer than --scope 128' bench attend --keys 100,4K --scope 128
fails 2 '--queries 200 are more than the last 140 tokens' bench attend --keys 300 --scope 300 --queries 200

fails 2 '--device gpu: it is cpu or cuda' bench attend --device gpu
# On a GPU, or without one a word about that.
device=(bench attend --device cuda --keys 600 --scope 256 --queries 1,20 -r 2 --json)
if "$REATTN" "${device[@]}" >out 2>err; then
    run 0 "${device[@]}"
    holds out 'all(0 < r["error"] < 2 ** -10 and r["ms"] > 0 for r in d["rows"]) and len(d["rows"]) == 2'
    holds out 'all(abs(r["gb_per_second"] * r["ms"] * 1e6 - 3 * 256 * 256) < 1 for r in d["rows"])'
    fails 2 'keys and values are f16' bench attend --device cuda --keys 300 --scope 256 --queries 1 -ctk q8_0
else
    fails 1 '--device cuda: ' "${device[@]}"
fi
need_model

run 0 bench attend -m "$model" --keys 300 --scope 256 --queries 1 --json
holds out 'd["heads"] == 9 and d["kv_heads"] == 3 and d["keys_of"] == "synthetic keys, seed 1"'
finish
