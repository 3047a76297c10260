# The same answer for any number of threads, for the same seed, and, within the scope, as with full attention.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

# The scope is shorter than the text, so that something is recalled.
prose 24 >long.txt
for threads in 1 2; do
    run 0 run -m "$model" -f long.txt -p 'What did the keeper write?' --temp 0 -n 12 -q -t $threads \
        --chunk 64 --keep 8 --local 128 --recall-max 8 --recall-span 16
    mv out answer.$threads
done
[ -s answer.1 ] || complain 'the answer is empty'
same answer.1 answer.2
run 0 run -m "$model" --raw -p 'Once upon a time' --temp 1 -s 7 -n 12 -q
cp out first
run 0 run -m "$model" --raw -p 'Once upon a time' --temp 1 --seed=7 -n 12 -q
same first out
run 0 run -m "$model" --raw -p 'Once upon a time' --temp 0 -n 12 -q --policy full
cp out full
run 0 run -m "$model" --raw -p 'Once upon a time' --temp 0 -n 12 -q
same full out
finish
