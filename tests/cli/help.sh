# --help, --version, and that every option of a command is in its help.
. "$SOURCE_DIR/tests/cli/lib.bash"

run 0 --help
same "$SOURCE_DIR/tests/cli/help.expected" out
run 2
same "$SOURCE_DIR/tests/cli/help.expected" err
run 0 --version
grep -qE '^reattn [0-9]+\.[0-9]+\.[0-9]+ \(.+\)$' out || complain "reattn --version says:" "$(cat out)"

for command in run chat info 'bench e2e' 'bench select' 'bench attend' 'eval niah' 'eval recall' 'eval ppl' 'eval compare' \
    'eval passkey' 'eval ruler' 'eval infinitebench' 'eval longbench' 'eval leval' 'eval sources'; do
    run 0 $command --help # a task is two words
    has out "usage: reattn $command"
    has out '--model FILE'
    has out 'Examples'
    ! grep -E '.{97}' out >long || complain "$what: too long for a terminal:" "$(cat long)"
    cp out direct
    run 0 help $command
    same direct out
done
for command in bench eval; do
    run 0 $command --help
    has out "reattn $command TASK --help"
    has out '  plot '
    cp out direct
    run 0 help $command
    same direct out
done
for command in 'bench select' 'bench plot' 'eval plot'; do
    run 0 $command --help
    ! grep -q -- --policy out || complain "$what: options of the engine mean nothing here"
done

run 0 run --help
for option in --file --prompt --predict --raw --json --trace --system-prompt --chat-template-file --grammar-file \
    --temp --top-k --top-p --min-p --repeat-penalty --repeat-last-n --seed --threads --gpu-layers --policy --keep \
    --local --local-per --recall-k --recall-span --recall-max --recall-per --recall-vote --recall-window --tail --chunk \
    --cache-type-k --cache-type-v --ctx-size --mem-limit --store --pot --pot-keep --pot-novelty --catalyst; do
    grep -qE -- " $option[ ,]" out || complain "$what: $option is missing"
done
has out 'default 0.8'

run 0 run --policy list
for policy in native full streaming reattention infllm infinipot; do
    # What it does, what it costs, where it comes from.
    grep -A 2 -E "^$policy +[a-z]" out >lines || complain "$what: there is no $policy"
    sed -n 2p lines | grep -qE '^ +cost: [a-z]' && sed -n 3p lines | grep -qE '^ +from: [A-Za-z]' ||
        complain "$what: expected cost and paper of $policy:" "$(cat lines)"
done
[ "$(grep -cE '^[a-z]' out)" -eq "$(grep -cE '^ +from: ' out)" ] || complain "$what: a policy without a paper:" "$(cat out)"
cp out direct
for command in chat 'bench e2e' 'eval niah' 'eval sources'; do
    run 0 $command --policy list
    same direct out
done
finish
