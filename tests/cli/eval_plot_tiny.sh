# eval plot and eval sources: pictures are written in both forms, and show what the files say.
. "$SOURCE_DIR/tests/cli/lib.bash"
model=$REATTN_TINY_DIR/llama.gguf
prose 100 >text.txt
run 0 eval recall -m "$model" -q -n 1 --lengths 600,900 --depths 0:100:50 --haystack text.txt --chunk 64 --local 128 --keep 8 \
    --recall-max 3 --out niah.jsonl --policy full,reattention
run 0 eval ppl -m "$model" -q --lengths 500 --bucket 100 --text text.txt --chunk 64 --policy full,native --out ppl.jsonl
for form in svg png; do
    run 0 eval plot niah.jsonl -o niah.$form
    run 0 eval plot niah.jsonl --value value_share -o share.$form
    run 0 eval plot niah.jsonl --value mass_share -o mass.$form
    run 0 eval plot niah.jsonl --value mass_heads -o heads.$form
    run 0 eval plot niah.jsonl --value recalled -o recalled.$form
    run 0 eval plot ppl.jsonl -o ppl.$form
done
what=pictures
for name in niah share mass heads recalled ppl; do
    python3 - $name.svg $name.png <<'END' || complain "$name is no picture"
import struct, sys, xml.dom.minidom
svg = xml.dom.minidom.parse(sys.argv[1]).documentElement
png = open(sys.argv[2], "rb").read()
assert png[:8] == b"\x89PNG\r\n\x1a\n" and png[-8:-4] == b"IEND"
width, height = struct.unpack(">II", png[16:24])
assert (width, height) == tuple(int(2 * float(svg.getAttribute(k).replace("pt", ""))) for k in ("width", "height"))
END
done
# The policy full holds every needle: its map of shares is all green, six cells of it.
for name in share mass; do
    [ "$(grep -o 'rgb(15%,60%,31%)' $name.svg | wc -l)" -ge 6 ] || complain "$name.svg has no green cells"
done
# 3 layers, 4 heads.
[ "$(grep -o 'rgb(15%,60%,31%)' heads.svg | wc -l)" -ge 12 ] || complain 'heads.svg has no green cells'
# Strips of 2 policies and 2 lengths, 3 questions each: a frame round each needle, blue where something was recalled.
[ "$(grep -o 'stroke:rgb(0%,45%,70%)' recalled.svg | wc -l)" -eq 12 ] || complain 'recalled.svg should frame 12 needles'
fails 1 'eval recall writes them' eval plot ppl.jsonl --value recalled -o x.svg
fails 2 'ends with .svg or .png' eval plot niah.jsonl -o niah.gif
fails 1 'no record of an evaluation' eval plot text.txt -o x.svg
fails 2 'needs a file of results' eval plot -o x.svg
fails 1 'there are no cases with a position and kl' eval plot ppl.jsonl --value kl -o x.svg

run 0 eval sources -m "$model" -q --raw -f text.txt -p 'What?' --chunk 64 --local 128 --keep 8 --recall-max 3 -n 5 --json -o strip.svg
holds out '1 <= d["answer_tokens"] <= 5 and d["passages"] and all(0 < p["share"] <= 1 for p in d["passages"])'
holds out '[p["share"] for p in d["passages"]] == sorted((p["share"] for p in d["passages"]), reverse=True)'
holds out 'all(p["first"] >= 8 and p["first"] + p["count"] <= d["prompt_tokens"] - 100 for p in d["passages"])'
# Passages are quoted in the text's own words.
holds out 'all(p["text"] in open("text.txt").read().replace("\n", " ") for p in d["passages"])'
run 0 eval sources -m "$model" -q --raw -f text.txt -p 'What?' --policy full -n 2
has out 'Nothing was recalled'
fails 2 'needs a text' eval sources -m "$model"

# What run --trace wrote is drawn too: a row for each token of the answer.
run 0 run -m "$model" --raw -f text.txt -p 'What?' --chunk 64 --local 128 --keep 8 --recall-max 3 -n 5 --temp 0 -q --trace trace.jsonl
{ echo '['; sed '$!s/$/,/' trace.jsonl; echo ']'; } >trace.json
holds trace.json 'd[-1]["layers"] == 3 and d[-1]["prompt_tokens"] == d[0]["token"] and d[-1]["keep"] == 8 and d[-1]["local"] == 128'
holds trace.json 'd[-1]["passages"] and all(p["text"] in open("text.txt").read().replace("\n", " ") for p in d[-1]["passages"])'
# The share of a passage is its peak's mean over the answer's steps of the share of layers.
holds trace.json 'all(abs(p["share"] - max(sum(s["layers"] for t in d[:-1] for s in t["spans"]
    if s["first"] <= at < s["first"] + s["count"]) / 3 / (len(d) - 1) for at in range(p["first"], p["first"] + p["count"]))) < 1e-6
    for p in d[-1]["passages"])'
run 0 eval plot trace.jsonl -o trace.svg
run 0 eval plot trace.jsonl trace.jsonl -o twice.svg
[ "$(wc -c <twice.svg)" -gt "$(wc -c <trace.svg)" ] || complain 'two traces should be two strips'
head -n 2 trace.jsonl >cut.jsonl
fails 1 'did not finish' eval plot cut.jsonl -o x.svg
finish
