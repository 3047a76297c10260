# eval --url: a server answers instead of a model.
. "$SOURCE_DIR/tests/cli/lib.bash"
python3 "$SOURCE_DIR/tests/fake_server.py" port secret &
server=$!
trap 'kill $server' EXIT
for ((i = 0; i < 100; i++)); do
    [ -s port ] && break
    sleep 0.1
done
url=http://127.0.0.1:$(cat port)
prose 60 >text.txt
niah=(eval niah --url "$url" --api-key secret -q --lengths 400,600 --depths 0:100:50 --haystack text.txt)
run 0 "${niah[@]}" --no-timings --out one.jsonl
has out 'server, text.txt: % exact by length and depth, 6 cases'
{ echo '['; sed '$!s/$/,/' one.jsonl; echo ']'; } >one.json
holds one.json 'd[0]["model"] == "fake" and d[0]["tokens"] == "counted" and len(d) == 7'
holds one.json 'all(c["score"] == 1 and c["config"] == "server" and c["options"] == {} and c["answer_tokens"] == 5 for c in d[1:])'
holds one.json 'all(c["length"] - 60 < c["prompt_tokens"] <= c["length"] for c in d[1:])'
head -n 3 one.jsonl >cut.jsonl
run 0 "${niah[@]}" --no-timings --out cut.jsonl
same one.jsonl cut.jsonl

fails 1 'HTTP 401: Invalid API Key' eval niah --url "$url" -q --haystack text.txt
fails 1 'exceeds the available context size' "${niah[@]}" --question 'REFUSE {key}'
fails 2 '-m is not for --url' "${niah[@]}" -m model.gguf
fails 2 '--policy is not for --url' "${niah[@]}" --policy full
fails 1 'http://127.0.0.1:1/v1/models' eval niah --url http://127.0.0.1:1 -q
fails 2 'or a server: --url' eval niah
fails 2 'there is no option --url' eval ppl --url "$url"
finish
