# A conversation from a pipe: the second answer needs the first message; each turn appends only what is new.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model

printf 'The code is 4711.\n' >secret.txt
printf '%s\n' '/file secret.txt' 'Remember the code. Answer: ok.' /stats 'What is the code?' /stats /exit unread >lines
run 0 chat -m "$model" --temp 0 -n 24 <lines
has out 4711
[ "$(grep -c . out)" -ge 2 ] || complain "expected two answers:" "$(cat out)"
has err 'secret.txt: 18 bytes'
held() { sed -nE 's/^reattn: ([0-9]+) tokens held.*prompt ([0-9]+) tokens.*answers ([0-9]+) tokens.*/\1 \2 \3/p' err; }
# What is held is what was sent and what was answered, nothing twice.
held | while read -r all sent answered; do
    [ "$all" -eq $((sent + answered)) ] || echo "$all tokens held, $sent sent, $answered answered"
done >wrong
[ ! -s wrong ] || complain "$(cat wrong)"
[ "$(held | wc -l)" -eq 2 ] || complain "expected two lines of /stats:" "$(cat err)"

printf '%s\n' 'Say hello.' /clear /stats /nothing >lines
run 1 chat -m "$model" --temp 0 -n 8 -q <lines
has err 'there is no command /nothing'
has err '0 tokens held'
finish
