"""Attention over runs with positions of their own, in float64."""
import numpy as np

from golden import array, f32, head, normal, rotate, softmax_rows, words

FAR = 2 ** 53  # no limit on the distance


def case(rng, *, T, n, q_first, H, Hk, D, Dv, neox, n_rot, base, runs):
    q, k, v = (normal(rng, *s) for s in ((T, H, D), (n, Hk, D), (n, Hk, Dv)))
    scale = float(f32(D ** -0.5))
    rope = dict(neox=neox, n_rot=n_rot, base=base)
    runs = [run + (0,) * (12 - len(run)) for run in runs]  # no divisors, all queries
    out, lse = np.zeros((T, H, Dv)), np.zeros((T, H))
    for t in range(T):
        for h in range(H):
            kv = h // (H // Hk)
            score, value = [], []
            for (first, count, k_pos, k_step, q_pos, q_step, dist_min, dist_max, k_div, q_div, t_min, t_end) in runs:
                if not t_min <= t < (t_end or T):
                    continue
                for c in range(count):
                    if dist_min <= (q_first + t) - (first + c) <= dist_max:
                        a = rotate(q[t, h], (q_pos + t * q_step) // (q_div or 1), **rope)
                        b = rotate(k[first + c, kv], (k_pos + c * k_step) // (k_div or 1), **rope)
                        score.append(scale * (a @ b))
                        value.append(v[first + c, kv])
            weight, lse[t, h] = softmax_rows(np.array(score)) if score else (np.zeros(0), -np.inf)
            if score:
                out[t, h] = weight @ np.array(value)
    words("case", T, n, q_first, H, Hk, D, Dv, int(neox), n_rot, float(base), scale)
    array("runs", np.array(runs, dtype=np.int64))
    for name, x in (("q", q), ("k", k), ("v", v), ("out", out), ("lse", lse)):
        array(name, x)


head("attend", 2)
rng = np.random.default_rng(5)
# causal over everything
case(rng, T=3, n=9, q_first=6, H=2, Hk=1, D=8, Dv=6, neox=True, n_rot=8, base=1e4,
     runs=[(0, 9, 0, 1, 6, 1, 0, FAR)])
# first tokens, a span, last tokens, closed up
case(rng, T=2, n=24, q_first=22, H=4, Hk=2, D=8, Dv=8, neox=False, n_rot=8, base=1e4,
     runs=[(0, 2, 0, 1, 9, 1, 0, FAR), (7, 4, 2, 1, 9, 1, 0, FAR), (19, 5, 6, 1, 9, 1, 0, FAR)])
# near keys as they are, far keys at one position
case(rng, T=4, n=16, q_first=12, H=2, Hk=2, D=10, Dv=4, neox=True, n_rot=6, base=500.0,
     runs=[(0, 16, 0, 1, 12, 1, 0, 5), (0, 16, 0, 0, 6, 0, 6, FAR)])
# the first query sees nothing
case(rng, T=2, n=6, q_first=3, H=2, Hk=1, D=4, Dv=5, neox=False, n_rot=4, base=1e4,
     runs=[(4, 2, 0, 1, 0, 1, 0, FAR)])
# far keys three to a position, queries two, near ones as they are
case(rng, T=3, n=17, q_first=14, H=4, Hk=2, D=8, Dv=6, neox=True, n_rot=8, base=100.0,
     runs=[(0, 17, 1, 1, 25, 1, 6, FAR, 3, 2), (0, 17, 0, 1, 14, 1, 0, 5)])
# two queries in the chunk before the other two, each with positions of its own
case(rng, T=4, n=12, q_first=8, H=2, Hk=1, D=6, Dv=4, neox=False, n_rot=6, base=100.0,
     runs=[(0, 10, 0, 1, 8, 1, 0, FAR, 0, 0, 0, 2), (0, 10, 0, 1, 9, 0, 0, FAR, 0, 0, 2, 3),
           (0, 5, 0, 1, -1, 3, 0, FAR, 0, 2, 3, 0), (10, 2, 0, 1, -2, 1, 0, FAR, 0, 0, 2, 4)])
