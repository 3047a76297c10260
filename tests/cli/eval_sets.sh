# eval longbench, leval, infinitebench on the small model: files in the published form, prompts, scores, questions of one
# text; what is wrong with a file is said.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model
mkdir lb v2 le ib bad
python3 - <<'END'
import json
story = "The captain of the ship was called Magnus. The ship was painted red. It sailed to the town of Bergen in May. "
def write(path, *items):
    with open(path, "w") as f:
        for item in items:
            f.write(json.dumps(item) + "\n")
base = {"length": 20, "language": "en", "all_classes": None, "_id": "1"}
write("lb/qasper.jsonl", base | {"dataset": "qasper", "context": story, "input": "To which town did the ship sail?",
      "answers": ["nowhere", "Bergen", "the town of Bergen"]})
write("lb/lcc.jsonl", base | {"dataset": "lcc", "context": "a = 1\nb = 2\nc = 3\nd = 4\n", "input": "", "answers": ["e = 5"],
      "length": 9000})
write("lb/trec.jsonl", base | {"dataset": "trec", "context": "Question: Who wrote it?\nType: Person\nQuestion: Where is it?\nType: "
      "Place\nQuestion: Who sang it?\nType: Person\nQuestion: Where did he go?\nType: Place\n", "input": "Question: Who won it?\nType:",
      "answers": ["Person"], "all_classes": ["Person", "Place"]})
with open("v2/data.json", "w") as f:
    json.dump([{"_id": "x", "domain": "Novel", "sub_domain": "s", "difficulty": "easy", "length": "short", "question": "Which colour?",
                "choice_A": "red", "choice_B": "blue", "choice_C": "green", "choice_D": "grey", "answer": "A", "context": story}], f)
write("le/quality.jsonl", {"input": story, "instructions": ["What colour was the ship? A. red B. blue", "Who? A. Tom B. Magnus"],
      "outputs": ["A", "(B) Magnus"], "evaluation": "exam", "source": "x"})
write("le/narrative_qa.jsonl", {"input": story, "instructions": ["Where did it sail?"], "outputs": ["to Bergen"], "evaluation": "f1"},
      {"input": story, "instructions": ["Tell it."], "outputs": ["..."], "evaluation": "LLM"})
write("le/news_summ.jsonl", {"input": story, "instructions": ["Summarise."], "outputs": ["The captain sailed to Bergen."],
      "evaluation": "rouge"})
write("ib/longbook_choice_eng.jsonl", {"id": 0, "context": story, "input": "What was the captain called?", "answer": ["Magnus"],
      "options": ["Tom", "Magnus", "Bergen", "May"]})
write("ib/math_find.jsonl", {"id": 0, "context": "[7, 9, 8]", "input": "The largest number of the list is: ", "answer": 9, "options": []})
write("bad/qasper.jsonl", {"context": story})
END
sets=(-m "$model" -q --policy full --no-timings)
as_list() { { echo '['; sed '$!s/$/,/' "$1"; echo ']'; } >list.json; }

run 0 eval longbench "${sets[@]}" --data lb -n 12 --out lb.jsonl
as_list lb.jsonl
holds list.json '[(c["set"], c["words"]) for c in d[1:]] == [("qasper", "0-4k"), ("trec", "0-4k"), ("lcc", "8k+")]'
# F1 over words, the best of the answers; the first line only; likeness of the first line of code in whole percent.
holds list.json 'd[1]["expected"][1] == "Bergen" and (d[1]["score"] > 0) == ("bergen" in d[1]["answer"].lower())'
holds list.json 'd[2]["score"] == ("Person" in d[2]["answer"].lstrip("\n").split("\n")[0]
    and "Place" not in d[2]["answer"].lstrip("\n").split("\n")[0])'
holds list.json 'abs(round(100 * __import__("difflib").SequenceMatcher(None,
    next((l for l in d[3]["answer"].lstrip("\n").split("\n") if not any(x in l for x in ("`", "#", "//"))), ""), "e = 5").ratio()) / 100
    - d[3]["score"]) < 1e-9 and d[3]["score"] > 0'
run 0 eval longbench "${sets[@]}" --v2 --data v2 -n 16 --out v2.jsonl
has out 'config and difficulty'
as_list v2.jsonl
holds list.json 'd[1]["expected"] == "A" and d[1]["domain"] == "Novel" and
    d[1]["score"] == ("The correct answer is (A)" in d[1]["answer"] or "The correct answer is A" in d[1]["answer"])'

run 0 eval leval "${sets[@]}" --data le -n 8 --out le.jsonl
as_list le.jsonl
holds list.json '[(c["set"], c["part"], c["metric"]) for c in d[1:]] ==
    [("quality", 0, "exam"), ("quality", 1, "exam"), ("narrative_qa", 0, "f1"), ("news_summ", 0, "rouge")]'
holds list.json 'all(c["answer"] in "ABCD" or c["score"] == ((__import__("re").search("[A-D]", c["answer"]) or ["A"])[0] == c["expected"].strip("(")[0])
    for c in d[1:3])'
holds list.json '0 <= d[4]["score"] <= 1 and {"rouge1", "rouge2", "rougeL"} <= set(d[4])'
"$REATTN" eval leval -m "$model" --policy full --data le --tasks narrative_qa -n 1 2>err >out
has err 'only a person or another model can judge ("evaluation": "LLM") are left out'

run 0 eval infinitebench "${sets[@]}" --data ib --out ib.jsonl
as_list ib.jsonl
holds list.json 'd[1]["expected"] == ["Magnus", "B"] and d[2]["expected"] == 9 and 1 <= d[2]["answer_tokens"] <= 3'
holds list.json 'd[2]["score"] == ((__import__("re").search(r"\d+", d[2]["answer"]) or [""])[0] == "9")'

fails 2 '--data FOLDER' eval longbench "${sets[@]}"
fails 2 'longbench has no task qasp; it has narrativeqa, qasper' eval longbench "${sets[@]}" --data lb --tasks qasp
fails 1 'there is no musique.jsonl in lb' eval longbench "${sets[@]}" --data lb --tasks musique
fails 1 'none of the files of leval' eval leval "${sets[@]}" --data lb
fails 1 'qasper, item 1: "context" or "answers" is missing' eval longbench "${sets[@]}" --data bad
fails 2 'longbook_qa_eng is read from the published file' eval infinitebench "${sets[@]}" --tasks longbook_qa_eng
finish
