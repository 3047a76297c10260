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
    run 0 eval plot ppl.jsonl -o ppl.$form
done
what=pictures
for name in niah share ppl; do
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
[ "$(grep -o 'rgb(15%,60%,31%)' share.svg | wc -l)" -ge 6 ] || complain 'share.svg has no green cells'
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
finish
