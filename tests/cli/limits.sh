# Configurations that cannot work, and limits that are reached.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

fails 2 '512' run -m "$model" --local-per step --local 100 -p x
has err '100'
# 32 + 400 * 32 + 4096 + 511 is more than the 8192 that the model was trained for.
fails 2 '17439' run -m "$model" --recall-max 400 --local 4096 -p x
has err '8192'

prose 60 >long.txt
run 1 run -m "$model" -q -f long.txt -c 500 -n 4
has err 'reattn: '
has err '500'
# The store grows with the text, so this limit is met in the middle of the prompt.
run 1 run -m "$model" -q -f long.txt --chunk 128 --mem-limit 30M -n 4
has err 'reattn: '
[ "$(grep -c '^reattn: ' err)" -eq 1 ] || complain "expected one line:" "$(cat err)"
grep -qE 'after [1-9][0-9]* of [0-9]+ tokens of the prompt' err ||
    complain "expected the place in the prompt:" "$(cat err)"
finish
