"""Golden values of the benchmarks' metrics, written from their descriptions and published code, not from ours.

    python3 tests/golden/metrics.py > tests/data/metrics.jsonl

Needs the packages rouge 1.0.1 and rouge_score 0.1.2, which LongBench, InfiniteBench and L-Eval use."""
import collections
import difflib
import json
import math
import random
import re
import string

from rouge import Rouge
from rouge_score import rouge_scorer

ZH = ("！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟"
      "〰〾〿–—‘’‛“”„‟…‧﹏.")


def words_answer(s):
    s = "".join(c for c in s.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", s).split()


def words_chinese(s):
    return list("".join("".join(c for c in s.lower() if c not in string.punctuation + ZH).split()))


def f1(a, b):
    same = sum((collections.Counter(a) & collections.Counter(b)).values())
    if not same:
        return 0.0
    p, r = same / len(a), same / len(b)
    return 2 * p * r / (p + r)


def rouge_l(a, b):
    try:
        return Rouge().get_scores([a], [b], avg=True)["rouge-l"]["f"]
    except ValueError:
        return 0.0


def rouge_score(kind):
    return lambda a, b: rouge_scorer.RougeScorer([kind], use_stemmer=False).score(b, a)[kind].fmeasure


def number_share(a, b):
    numbers = re.findall(r"\d+", a)
    return sum(n == b for n in numbers) / len(numbers) if numbers else 0.0


def classes(a, b):
    names = ["Food", "Sport", "Food and drink", "a person", "person", "Number of something", "Number"]
    found = [n for n in names if n in a]
    for n in found:
        if n in b and n != b:
            found.remove(n)
    return 1 / len(found) if b in found else 0.0


def first_integer(a, b):
    return float(next((x for x in re.split("[^0-9]", a) if x), "") == b)


def last_integer(a, b):
    a = a.strip()
    for c in "\n.`'\":":
        a = a.replace(c, " ")
    try:
        return float(int(a.split()[-1]) == int(b))
    except (ValueError, IndexError):
        return 0.0


def first_number(a, b):
    m = re.search(r"\d+\.\d+|\d+", a)
    return float(m is not None and float(m[0]) == float(b))


def has_word(a, b):
    for c in '\n:"\'.,?!{}':
        a = a.replace(c, " ")
    return float(b in a.split())


def correct_answer_is(a, b):
    a = a.replace("*", "")
    m = re.search(r"The correct answer is \(([A-D])\)", a) or re.search(r"The correct answer is ([A-D])", a)
    return float(m is not None and m[1] == b)


def choice(pred, b):
    label = [b, "the old man"]
    pred = pred.strip()
    if pred == "":
        return 0.0
    if pred[0] in "ABCD":
        return float(pred[0] in label)
    if pred in label:
        return 1.0
    for c in "\n\"'.,?!{}":
        pred = pred.replace(c, " ")
    while "  " in pred:
        pred = pred.replace("  ", " ")
    for prefix in "answer is:", "answer:", "answer is", "option is":
        at = pred.find(prefix)
        if at < 0:
            continue
        if len(pred) < at + len(prefix) + 1:
            return 0.0
        return float(any(pred[at + len(prefix) + 1:].startswith(s) for s in label))
    for word in pred.split():
        if word in "ABCD":
            return float(word in label)
    return 0.0


def code_debug(pred, b):
    letter, name = b, "get_item"
    pred = pred.strip()
    if pred[:2] in (letter + ".", letter + ":"):
        return 1.0
    for c in "\n", "`", "'", '"', "-", "*", "Option", "option":
        pred = pred.replace(c, " ")
    while "  " in pred:
        pred = pred.replace("  ", " ")
    for prefix in "answer is:", "is:", "answer:", "correct option is:":
        at = pred.find(prefix)
        if at < 0:
            continue
        if len(pred) < at + len(prefix) + 1:
            return 0.0
        return float(any(pred[at + len(prefix) + 1:].startswith(s) for s in (letter, name)))
    return 0.0


def exact(pred, gt):
    plain = re.sub(r"\b(a|an|the)\b", " ", "".join(c for c in gt if c not in string.punctuation)).split()
    if all(c in "ABCD" for c in "".join(plain)):
        said = re.sub(r"\b(a|an|the)\b", " ", "".join(c for c in pred if c not in string.punctuation)).split()
        if said == plain:
            return 1.0
        return 0.25 if set(" ".join(said)) <= set(" ".join(plain)) else 0.0
    try:
        return float(float(pred) == float(gt))
    except ValueError:
        pred = next((line for line in pred.split("\n") if len(line) > 1), pred)
        return float(gt.lower().replace(" ", "") in pred.lower().replace(" ", ""))


def exam_choice(pred, gt, several=False):
    def said(s):
        if s in "ABCD":
            return s
        if not several:
            for c in s:
                if c in "ABCD":
                    return c
        start = re.match("[ABCD]*", s)[0]
        s = s[len(start):]
        if len(start) > 1:
            return "".join(sorted(set(start)))
        found = re.findall(r"\s*[A-Z](?=[\s.)])", s.split("Question")[0])
        return "".join(sorted(set(re.sub("[^A-D]", "", start + " ".join(found))))) or "A"

    return exact(said(pred), re.sub("[^A-D]", "", gt.split()[0]) or "A")


def exam_math(pred, gt):
    def number(s):
        m = re.search(r"The answer is (\S+)", s)
        if m:
            word = m[1]
        else:
            word = next((w for w in reversed(s.split("\n\n")[0].split(" ")) if any(c.isdigit() for c in w)), "")
        return "".join(c for c in word.split(".")[0] if c.isdigit())

    a, b = number(pred), number(gt)
    try:
        return float(float(a) == float(b))
    except ValueError:
        return float(b in a)


def exam_code(pred, gt):
    def form(s):
        s = re.sub(r"\s+", " ", s)
        for a, b in ((",", ""), ("'", ""), ("\\", ""), (".0", ""), ("] [", "]["), ("[ [", "[["), ("] ]", "]]")):
            s = s.replace(a, b)
        return s

    n = len(gt.split())
    s = form(pred)
    for word in "will be", "of the code", "is", "would be", "the value of", "the result of", "printed":
        s = s.replace(word, "")
    if "the final output" in s:
        kept = re.split(r"\s+", s.split("the final output")[-1])[:n + 3]
    else:
        kept = re.split(r"\s+", s)[-(n + 3):]
    return exact(" ".join(kept), form(gt))


METRICS = {
    "f1": lambda a, b: f1(words_answer(a), words_answer(b)),
    "f1_chinese": lambda a, b: f1(words_chinese(a), words_chinese(b)),
    "rouge_l": rouge_l,
    "rouge1": rouge_score("rouge1"), "rouge2": rouge_score("rouge2"), "rougeL": rouge_score("rougeL"),
    "rougeLsum": rouge_score("rougeLsum"),
    "edit": lambda a, b: difflib.SequenceMatcher(None, a, b).ratio(),
    "number_share": number_share, "class": classes, "first_integer": first_integer, "last_integer": last_integer,
    "first_number": first_number, "has_word": has_word, "correct_answer_is": correct_answer_is, "choice": choice,
    "code_debug": code_debug, "exam_choice": exam_choice,
    "exam_choices": lambda a, b: exam_choice(a, b, True), "exam_math": exam_math, "exam_code": exam_code,
    "exam_text": exact,
}


def emit(metric, answer, expected):
    value = METRICS[metric](answer, expected)
    print(json.dumps({"metric": metric, "answer": answer, "expected": expected, "value": value}))


def prose(rng, n, vocabulary):
    out = ""
    for _ in range(n):
        out += rng.choice(vocabulary) + rng.choice([" ", " ", " ", " ", ", ", ". ", ".\n", "\n", " - ", "  "])
    return out.strip() if rng.random() < 0.7 else out


def main():
    rng = random.Random(20261124)
    vocabulary = "The the a an cat dog sat Ran it's U.S. naïve Élan 12 3.5 mat, (of) and 'quote' “smart” — über x_y ÉCOLE".split()
    texts = [(prose(rng, rng.randint(0, 30), vocabulary), prose(rng, rng.randint(1, 30), vocabulary)) for _ in range(60)]
    texts += [("", "word"), ("word", ""), ("...", "a. b."), (". .", "x . y"), ("the", "the"), ("same text.", "same text.")]
    for a, b in texts:
        for metric in "f1", "rouge_l", "rouge1", "rouge2", "rougeL", "rougeLsum", "edit":
            emit(metric, a, b)
    han = "我们今天去学校，老师说：“好！”。Ａ 1 the Word"
    for _ in range(20):
        emit("f1_chinese", "".join(rng.choices(han, k=rng.randint(0, 20))), "".join(rng.choices(han, k=rng.randint(1, 20))))
    for _ in range(12):
        line = "".join(rng.choices("return self.x(y) + foo_bar[i]\n", k=rng.randint(1, 300)))
        other = "".join(c if rng.random() < 0.8 else rng.choice("abcxyz ") for c in line)
        emit("edit", other[rng.randint(0, len(other)) // 4:], line)
    answers = ["", "The answer is 42.", "42", "It is 42, not 7. 42", "7 42", "Paragraph 42", "x=42", "value: `42`", "-42", "4.2",
               "  42\n", "about 3.50 or 4", "1,234", "the value of the code is 42", "The answer is  3", "so 12 + 30\n\n7"]
    for a in answers:
        for metric in "number_share", "first_integer", "last_integer", "exam_math", "exam_code", "exam_text":
            emit(metric, a, "42")
        emit("first_number", a, "3.5")
        emit("first_number", a, "42")
        emit("has_word", a, "42")
    for a in ["Food", "Sport and Food", "Food and drink", "Number of something", "a person or Sport", "none", "Number"]:
        for b in "Food and drink", "a person", "Number of something", "Sport":
            emit("class", a, b)
    letters = ["", "B", "AB", "B.", "B: get_item", "(B)", "The answer is B", "answer is: B", "the option is B.", "answer:",
               "The correct answer is (B).", "The correct answer is **B**", "The correct answer is C, no: The correct answer is (B)",
               "I think the old man", "the old man", "answer is the old man", "Which? B or C", "None", "Because A. is wrong, B) and D.",
               "AD because", "Answer: A Question B)", "The function is: `get_item`", "- option B:", "correct option is: B", "D",
               "is: other", "BC", "A B", "  B", "\nB\n", "CDA x", "Maybe ABC then"]
    for a in letters:
        for metric in "correct_answer_is", "choice", "code_debug", "exam_choice", "exam_choices":
            for b in "B", "D":
                emit(metric, a, b)
        emit("exam_choices", a, "AB")
    code = [("The final output is [1, 2, 3]", "[1, 2, 3]"), ("the final output will be [[1], [2]] indeed and more words here", "[[1],[2]]"),
            ("prints 'abc' 2.0", "abc 2"), ("So, of the code is\n\n5.0", "5"), ("nothing", "True False"), ("it is True", "True")]
    for a, b in code:
        emit("exam_code", a, b)
        emit("exam_text", a, b)
    for a, b in [("New York\nmore", "new york"), ("a\nParis", "paris"), ("3.0", "3"), ("three", "3"), ("x", "y"), ("", "y")]:
        emit("exam_text", a, b)


if __name__ == "__main__":
    assert math.isclose(f1(["x"], ["x"]), 1)
    main()
