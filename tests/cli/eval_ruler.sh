# eval ruler on the small model: an independent scorer gives the same scores for our files.
. "$SOURCE_DIR/tests/cli/lib.bash"
need_model
[ -d "$REATTN_ESSAYS" ] || exit 77
run 0 eval ruler -m "$model" -q --policy full --tasks niah_multiquery,fwe --lengths 640 --seeds 1 --predictions pred --json
python3 "$SOURCE_DIR/tests/ruler_scorer.py" pred >theirs.json || complain 'the scorer failed'
cat >both.json <<END
{"ours": $(cat out), "theirs": $(cat theirs.json)}
END
holds both.json 'd["theirs"] == {"full/640/" + task: round(100 * row["640"], 2)
    for task, row in d["ours"]["tables"][0]["rows"].items()}'
holds both.json 'len(d["theirs"]) == 2 and max(d["theirs"].values()) > 0'
cat theirs.json
finish
