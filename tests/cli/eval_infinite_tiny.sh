# eval infinitebench: the sets that are made have one right answer, which the text gives.
. "$SOURCE_DIR/tests/cli/lib.bash"
model=$REATTN_TINY_DIR/llama.gguf
run 0 eval infinitebench -m "$model" -q --no-timings --lengths 1500,3000 --seeds 2 --policy streaming --local 256 --chunk 200 \
    --keep 8 --out made.jsonl --prompts prompts
{ echo '['; sed '$!s/$/,/' made.jsonl; echo ']'; } >made.json
holds made.json 'len(d) == 1 + 5 * 2 * 2 and all(c["length"] - 130 <= c["prompt_tokens"] <= c["length"] for c in d[1:])'
holds made.json 'len({str(c["expected"]) + c["set"] for c in d[1:]}) > 15'
python3 - <<'END' || complain 'a made question has another answer'
import glob, json, re
records = [json.loads(line) for line in open("made.jsonl")][1:]
for r in records:
    text = open(f"prompts/{r['set']}/{r['index']}/0.txt").read()
    e = r["expected"]
    if r["set"] == "passkey":
        assert re.findall(r"pass key is (\d{5})\.", text) == [e]
    elif r["set"] == "number_string":
        assert re.findall(r"digits is (\d{10})\.", text) == [e]
    elif r["set"] == "kv_retrieval":
        data = json.loads(re.search(r"\{.*\}", text)[0])
        assert data[re.search(r'Key: "(.*)"', text)[1]] == e and len(data) > 5
    elif r["set"] == "math_find":
        which = re.search(r"The (.*) number of the list", text)[1]
        assert f"What is the {which} number in the following list?" in text
        numbers = sorted(json.loads(re.search(r"\[.*\]", text)[0]))
        n = 1 if "second" in which else 0
        assert e == (numbers[-1 - n] if "largest" in which else numbers[n])
        assert numbers.count(e) == 1
    else:
        scope = {}
        exec(re.search(r"(def .*\n)\nPlease", text, re.S)[1], scope)
        assert eval(re.search(r"value of (func_\d+\(-?\d+\))", text)[1], scope) == e
END
finish
