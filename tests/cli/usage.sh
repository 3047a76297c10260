# Wrong usage: exit code 2 and one line that says what to do, with the bounds.
. "$SOURCE_DIR/tests/cli/lib.bash"

fails 2 'did you mean run?' rnu
fails 2 '--help lists them' wonder
fails 2 'run needs a model: -m FILE' run
fails 2 'run needs a text' run -m none.gguf
fails 2 "unexpected argument 'hello'" run -m none.gguf hello
fails 2 'did you mean --recall-max?' run --recal-max 3
fails 2 'did you mean --temp?' run --tem 1
fails 2 'there is no option --zzzzzz' run --zzzzzz
fails 2 'there is no option --prompt' info --prompt x
fails 2 '--chunk' run -ub 512
fails 2 '--temp needs a value' run -m none.gguf --temp
fails 2 'from 0 to 100' run --temp -1
fails 2 'from 0 to 100' run --temp=nan
fails 2 'from 0 to 1,' run --top-p 1.5
fails 2 'from -1 to' run -n -2
fails 2 "not '12x'" run -n 12x
fails 2 'or all' run -ngl many
fails 2 '--recall-k ' run --recall-k 0
fails 2 '1 .. 64' run --recall-k 65
fails 2 '--recall-per ' run --recall-per word
fails 2 'layer|head' run --recall-per word
fails 2 '--cache-type-k q3' run -ctk q3
fails 2 '--policy ' run --policy none
fails 2 '--raw has no chat template' run -m none.gguf --raw -sys x -p x
fails 2 'is on or off' run --json=maybe
fails 2 'reattn bench --help' bench
fails 2 'did you mean select?' bench selekt
fails 2 'there is no bench fast' bench fast
fails 2 '--n-prompt takes a whole number from 1 to 1000000' bench e2e -m none.gguf --n-prompt 1000K
fails 2 '--n-prompt takes a whole number' bench e2e -m none.gguf --n-prompt 32Q
fails 1 'none.gguf' bench e2e -m none.gguf --n-prompt 32K -f ../README.md
fails 2 'such as 8K,16K' bench e2e -m none.gguf --depths 1,x
fails 2 '--policy ' bench e2e -m none.gguf --policy native,none

# Options that the policies have no use for are warned of, in the environment they are not.
run 1 run -m none.gguf --policy streaming --recall-from 9 --catalyst x --keep 8 -p x
has err '--recall-from, --catalyst have no effect under --policy streaming'
[ "$(wc -l <err)" -eq 2 ] || complain "$what: expected one warning and an error:" "$(cat err)"
run 1 bench e2e -m none.gguf --policy full,streaming --recall-k 3 --keep 8
has err '--recall-k has no effect under --policy full,streaming'
[ "$(wc -l <err)" -eq 2 ] || complain "$what: expected one warning and an error:" "$(cat err)"
run 1 eval niah -m none.gguf --policy full --config near:policy=streaming,tail=3,recall-k=3 --keep 8
has err '--config near: recall-k has no effect under the policy streaming'
[ "$(wc -l <err)" -eq 2 ] || complain "$what: expected one warning and an error:" "$(cat err)"
REATTN_ARG_RECALL_FROM=9 fails 1 'none.gguf' run -m none.gguf --policy streaming -p x

# The environment: our names, llama.cpp's names after them, the command line over both.
export REATTN_ARG_TOP_K=-5
fails 2 'REATTN_ARG_TOP_K takes a whole number' run
export REATTN_ARG_TOP_K=5 LLAMA_ARG_TOP_K=x
fails 2 'run needs a model' run
unset REATTN_ARG_TOP_K
fails 2 'LLAMA_ARG_TOP_K takes' run
unset LLAMA_ARG_TOP_K
export REATTN_ARG_RECALL_K=65
fails 2 'REATTN_ARG_RECALL_K: ' run
finish
