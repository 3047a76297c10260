# quantize: types by name, files that run, and nothing left of what could not be written.
. "$SOURCE_DIR/tests/cli/lib.bash"
from=$REATTN_TINY_DIR/mistral.gguf # f16
run 0 quantize --type list
has out 'Q4_K_M'
has out 'Q2_K'
cut -d' ' -f1 out >types
sizes=()
for type in F32 F16 Q8_0 q4_0; do
    run 0 quantize -m "$from" -o $type.gguf --type $type
    grep -qE "^reattn: $type.gguf: .*, [0-9.]+ bits a weight$" err || complain "$what: standard error:" "$(cat err)"
    sizes+=("$(stat -c %s $type.gguf)")
    run 0 run -m $type.gguf --raw -p 'The sea' -n 2 --temp 0 -q
done
[ "${sizes[0]}" -gt "${sizes[1]}" ] && [ "${sizes[1]}" -gt "${sizes[2]}" ] && [ "${sizes[2]}" -gt "${sizes[3]}" ] ||
    complain "sizes should fall: ${sizes[*]}"
# Every type of the list can be written; Q4_K stands for Q4_K_M.
while read -r type; do
    run 0 quantize -m "$from" -o any.gguf --type "$type" -q
done <types
run 0 quantize -m "$from" -o k.gguf --type Q4_K -q
run 0 quantize -m "$from" -o km.gguf --type Q4_K_M -q
cmp k.gguf km.gguf || complain 'Q4_K and Q4_K_M differ'
# The same quality, two models in a table.
prose 60 >text.txt
run 0 eval ppl -m F32.gguf -m Q8_0.gguf -q --lengths 300 --bucket 100 --text text.txt --policy native --json
holds out 'all(abs(r["F32.gguf, native"] / r["Q8_0.gguf, native"] - 1) < 0.2 for r in d["tables"][0]["rows"].values())'

fails 2 'there is no type Q9; there are F32, F16' quantize -m "$from" -o x.gguf --type Q9
fails 2 'there is no type Q;' quantize -m "$from" -o x.gguf --type Q
fails 2 'needs a type' quantize -m "$from" -o x.gguf
fails 2 'needs a model' quantize -o x.gguf --type Q8_0
fails 2 'needs the new model' quantize -m "$from" --type Q8_0
fails 2 'over itself' quantize -m F16.gguf -o ./F16.gguf --type Q8_0
fails 2 'quantised already (q8_0)' quantize -m Q8_0.gguf -o x.gguf --type Q4_0
run 0 quantize -m Q8_0.gguf -o x.gguf --type Q4_0 --allow-requantize
grep -q 'warning: Q8_0.gguf is quantised already' err || complain "$what: no warning in" "$(cat err)"
fails 1 'cannot open the model' quantize -m none.gguf -o x.gguf --type Q8_0
fails 1 'is not a GGUF file' quantize -m text.txt -o y.gguf --type Q8_0
fails 1 'No such file' quantize -m "$from" -o nowhere/y.gguf --type Q8_0
head -c 100000 "$from" >short.gguf
fails 1 'short.gguf' quantize -m short.gguf -o y.gguf --type Q8_0
# A disk that is full: the old file stays, and nothing else.
echo old >y.gguf
trap '' XFSZ
(ulimit -f 100 && exec "$REATTN" quantize -m "$from" -o y.gguf --type F32) >out 2>err && complain 'a full disk was not noticed'
grep -q '^reattn: y.gguf could not be written' err && [ "$(cat y.gguf)" = old ] && [ ! -e y.gguf.part ] ||
    complain "a full disk left:" "$(ls)" "$(cat err)"
finish
