"""Votes by count and by mass, kept by votes, then best score, then position.

All weights are such that no two positions tie by rounding alone: masses are compared with room to spare."""
import numpy as np

from golden import array, head, normal, words


def tally(pos, score, vote, scale):
    votes, best = {}, {}
    for p_row, s_row in zip(pos, score):
        used = p_row >= 0
        weight = np.ones(used.sum())
        if vote == "mass":
            z = np.exp(scale * (s_row[used] - s_row[used].max())) if used.any() else weight
            weight = z / z.sum()
        for p, s, w in zip(p_row[used], s_row[used], weight):
            votes[p] = votes.get(p, 0.0) + w
            best[p] = max(best.get(p, -np.inf), s)
    return votes, best


def case(rng, n_query, top_k, n_pos, m, vote, scale, integer_scores):
    pos = np.full((n_query, top_k), -1)
    score = np.zeros((n_query, top_k))
    for t in range(n_query):
        used = min(top_k, n_pos) if rng.random() < 0.8 else int(rng.integers(0, min(top_k, n_pos) + 1))
        s = rng.integers(-4, 5, used) / 1.0 if integer_scores else normal(rng, used) * 4
        p = rng.permutation(n_pos)[:used]
        order = np.lexsort((p, -s))
        pos[t, :used], score[t, :used] = p[order], s[order]
    votes, best = tally(pos, score, vote, scale)
    ranked = sorted(votes, key=lambda p: (-votes[p], -best[p], p))
    if vote == "mass" and 0 < m < len(ranked):
        inside, outside = votes[ranked[m - 1]], votes[ranked[m]]
        assert inside - outside > 1e-9, "a tie by rounding: take another seed"
    words("case", vote, n_query, top_k, m, float(scale))
    array("pos", pos)
    array("score", score)
    array("kept", np.array(sorted(ranked[:m]), dtype=int))


head("votes")
rng = np.random.default_rng(11)
for m in (0, 1, 5, 12, 100):
    case(rng, 12, 4, 40, m, "count", 0.125, False)
    case(rng, 20, 4, 25, m, "count", 0.125, True)
    case(rng, 12, 4, 40, m, "mass", 0.125, False)
    case(rng, 9, 6, 30, m, "mass", 1.0, False)
case(rng, 1, 1, 1, 1, "mass", 1.0, False)
case(rng, 6, 8, 5, 3, "count", 1.0, True)
case(rng, 0, 4, 5, 3, "count", 1.0, True)
