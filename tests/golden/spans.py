"""Spans around kept positions, as set unions."""
import numpy as np

from golden import array, head, words


def case(kept, s, lo, hi):
    inside = sorted({p for j in kept for p in range(j - s // 2, j + (s + 1) // 2) if lo <= p < hi})
    spans = []
    for p in inside:
        if spans and spans[-1][0] + spans[-1][1] == p:
            spans[-1][1] += 1
        else:
            spans.append([p, 1])
    words("case", s, lo, hi)
    array("kept", np.array(kept, dtype=int))
    array("first", np.array([a for a, _ in spans], dtype=int))
    array("count", np.array([n for _, n in spans], dtype=int))


head("spans")
case([], 32, 0, 10)
case([5], 1, 5, 6)
case([5], 2, 5, 6)
case([5, 6, 7], 1, 0, 20)
case([5, 7], 2, 0, 20)
case([32, 64, 96], 32, 32, 97)
case([32, 65, 98], 32, 32, 99)
case([10, 20], 1000, 4, 33)
rng = np.random.default_rng(3)
for _ in range(60):
    lo = int(rng.integers(0, 50))
    hi = lo + int(rng.integers(1, 400))
    n = int(rng.integers(0, min(30, hi - lo) + 1))
    case(sorted(rng.choice(np.arange(lo, hi), n, replace=False).tolist()), int(rng.integers(1, 50)), lo, hi)
