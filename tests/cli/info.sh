# What info says of SmolLM2-135M.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

run 0 info -m "$model"
has out '30, with 9 heads of 64 values (3 KV heads)'
has out '8192 tokens'
has out 'scope 32 + 127 x 32 + 512 = 4608 of 8192'
grep -qE '^  split/f16 +[0-9.]+ MiB +[0-9]+ +\(chosen\)$' out || complain "$what: no line of split keys:" "$(cat out)"
run 0 info -m "$model" --json
holds out 'd["model"]["n_layer"] == 30 and d["model"]["n_head_kv"] == 3 and d["model"]["n_ctx_train"] == 8192'
holds out 'd["rope"]["n_rot"] == 64 and d["rope"]["freq_base"] == 100000 and not d["rope"]["freq_factors"]'
holds out 'd["scope"]["total"] == 4608 and d["chunk"] == 512'
# 30 layers, K and V, 3 heads of 64 values of 2 bytes, 1000 tokens: 23 MB in f16.
holds out '[s["bytes_per_1000"] for s in d["stores"] if s["type"] == "f16"] == [30 * 2 * 3 * 64 * 2 * 1000]'
# Split keys, the default, with values in f16: a little less.
holds out '[(s["chosen"], 0 < s["bytes_per_1000"] < 30 * 2 * 3 * 64 * 2 * 1000) for s in d["stores"] if s["type"] == "split/f16"] == [
    (True, True)]'
holds out '[s["type"] for s in d["stores"]] == ["f32", "f16", "q8_0", "split/f16"]'
holds out 'all(s["tokens_that_fit"] > 0 for s in d["stores"]) and sum(s["chosen"] for s in d["stores"]) == 1'
holds out 'd["threads"] >= 1 and d["cpu_level"]'
run 0 info -m "$model" --json --preset paper
holds out 'd["scope"]["local"] == 4096 and d["scope"]["total"] == 8192 and d["tail"] == 0'
run 0 info -m "$model" --json --local 2048 -t 1
holds out 'd["scope"]["local"] == 2048 and d["scope"]["total"] <= 8192 and d["threads"] == 1'
# The paper's preset, whatever came before it; what comes after it counts, in the environment too.
run 0 info -m "$model" --json --local 2048 --recall-max 9 --preset paper
holds out 'd["scope"]["local"] == 4096 and d["scope"]["total"] == 8192 and d["tail"] == 0'
REATTN_ARG_PRESET=paper REATTN_ARG_TAIL=8 run 0 info -m "$model" --json
holds out 'd["scope"]["local"] == 4096 and d["tail"] == 8'
run 0 info -m "$model" --ctx-train 4096
has out 'scope 32 + 95 x 32 + 512 = 3584 of 4096'
run 0 info -m "$model" --json -ctk q8_0 -ctv f16
holds out '[s["type"] for s in d["stores"] if s["chosen"]] == ["q8_0/f16"]'
finish
