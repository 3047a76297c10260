"""Scores RULER predictions as RULER's scripts/eval/evaluate.py does, written from its description and not from our code:
control characters become newlines, blanks at the ends go, and a sample's score is the share of its references that occur
in the prediction without regard to case (string_match_all; the best one for the qa tasks).

    python3 ruler_scorer.py FOLDER        prints {"CONFIG/LENGTH/TASK": score of 0 .. 100 with two decimals}"""
import json
import pathlib
import re
import sys


def clean(prediction):
    return re.sub(r"[\x00-\x1f]", "\n", prediction.strip()).strip()


def score(task, samples):
    total = 0.0
    for sample in samples:
        prediction = clean(sample["pred"]).lower()
        found = [float(reference.lower() in prediction) for reference in sample["outputs"]]
        total += max(found) if task.startswith("qa") else sum(found) / len(found)
    return round(total / len(samples) * 100, 2)


def main(folder):
    scores = {}
    for path in sorted(pathlib.Path(folder).glob("*/*/*.jsonl")):
        with open(path, encoding="utf-8") as file:
            samples = [json.loads(line) for line in file]
        assert all(sample.keys() >= {"index", "input", "outputs", "pred", "others", "length"} for sample in samples)
        scores["/".join(path.relative_to(folder).with_suffix("").parts)] = score(path.stem, samples)
    print(json.dumps(scores))


if __name__ == "__main__":
    main(sys.argv[1])
