# bench select times exact top-k and checks it against the law.
. "$SOURCE_DIR/tests/cli/lib.bash"

run 0 bench select --keys 300,128 --queries 1,5 -ctk f16,q8_0 -r 2 --json
holds out '[(r["type"], r["keys"], r["queries"]) for r in d["rows"]] == [
    (t, k, q) for t in ("f16", "q8_0") for k in (128, 300) for q in (1, 5)]'
holds out 'all(r["equal"] and r["ms"] > 0 and r["max_ms"] > 0 and r["scratch_bytes"] > 0 for r in d["rows"])'
# At least top_k keys of each query and head are scored in full.
holds out 'all(d["top_k"] / r["keys"] <= r["rescored_share"] <= 1 for r in d["rows"])'
# The rates follow from the time.
holds out 'all(abs(r["gb_per_second"] * r["ms"] * 1e6 - 3 * r["keys"] * r["bytes_per_key"]) < 1 for r in d["rows"])'
holds out 'all(abs(r["gflop_per_second"] * r["ms"] * 1e6 - 2 * 64 * 9 * r["keys"] * r["queries"]) < 1 for r in d["rows"])'
holds out 'd["read_gb_per_second"] > 0.1 and d["peak_gflop_per_second"] > 0.1 and d["cpu_level"] and d["threads"] == 1'
# The keys of all layers together do not fit the cache that the bench found, whatever it is.
holds out 'all(r["layers"] > 1 and r["round_mib"] >= 8 for r in d["rows"])'

run 0 bench select --heads 4 --kv-heads 2 --dim 32 --keys 200 --queries 2 -k 3 --seeds -s 7
has out 'synthetic keys, seed 7'
has out '4 query heads, 2 KV heads, head size 32, top 3 seeded, 1 threads'
grep -qE '^ +200 \| +2 \| split .*\| equal$' out || complain "$what: no line of 200 keys, equal to the law:" "$(cat out)"

# Every selection against the law, at the levels asked for.
run 0 bench select --keys 1500 --queries 8 --check scalar,base -r 1
has err 'check: scalar '
has err 'check: base '
grep -qE '^check: .* [1-9][0-9]* pairs of query and head over 1500 keys, 0 differ' err || complain "$what: no check:" "$(cat err)"
# 32 bytes, and of each of five layers 300 keys of 3 x 64 f16 and 2 queries of 9 x 64 f32.
run 0 bench select --keys 300 --queries 2 -r 1 --dump keys.bin
[ "$(stat -c %s keys.bin)" -eq $((32 + 5 * (300 * 3 * 64 * 2 + 2 * 9 * 64 * 4))) ] || complain "$what: $(stat -c %s keys.bin) bytes"
fails 1 'none/keys.bin: ' bench select --keys 300 --queries 2 -r 1 --dump none/keys.bin

fails 2 'has none of these levels' bench select --keys 300 --queries 1 --check sse9 -r 1

fails 2 '--heads 9 is not a multiple of --kv-heads 2' bench select --kv-heads 2
fails 2 '--keys takes whole numbers from 1' bench select --keys 0
fails 2 'must be one of' bench select -ctk f16,f12
fails 2 'q8_0 needs a multiple of 32' bench select --dim 40 -ctk q8_0
fails 2 'there is no option --local' bench select --local 64
fails 2 '-f needs a model' bench select -f text.txt
fails 2 '--device gpu: it is cpu or cuda' bench select --device gpu

# On a GPU, or without one a word about that.
device=(bench select --device cuda --keys 300,3000 --queries 1,20 -ctk f16,split -r 2 --json)
if "$REATTN" "${device[@]}" >out 2>err; then
    run 0 "${device[@]}"
    holds out 'len(d["rows"]) == 8 and all(r["equal"] and r["ms"] > 0 for r in d["rows"])'
    holds out 'all(abs(r["gb_per_second"] * r["ms"] * 1e6 - 3 * r["keys"] * r["bytes_per_key"]) < 1 for r in d["rows"])'
    fails 2 '--seeds, --check and --dump go with --device cpu' bench select --device cuda --seeds
else
    fails 1 '--device cuda: ' "${device[@]}"
fi
need_model

# Real keys: those that the model has for a text.
prose 20 >text.txt
run 0 bench select -m "$model" -f text.txt --keys 200 --queries 1,4 -r 1 --json
holds out 'd["keys_of"] == "the model'"'"'s keys for text.txt" and d["heads"] == 9 and d["rows"][0]["layers"] == 30'
holds out 'all(r["equal"] for r in d["rows"])'
fails 2 'tokens: --keys and twice --queries must not be more' bench select -m "$model" -f text.txt --keys 64K
finish
