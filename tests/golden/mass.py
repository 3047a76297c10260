"""What the keys of one run got of attention: softmax probabilities summed over the queries, in float64."""
import numpy as np

from golden import array, f32, head, normal, rotate, softmax_rows, words

FAR = 2 ** 53  # no limit on the distance


def case(rng, *, T, q_first, n, H, Hk, D, neox, n_rot, base, runs, run):
    q, k = normal(rng, T, H, D), normal(rng, n, Hk, D)
    scale = float(f32(D ** -0.5))
    rope = dict(neox=neox, n_rot=n_rot, base=base)
    mass = np.zeros((H, runs[run][1]))
    for t in range(T):
        for h in range(H):
            score, at = [], []
            for r, (first, count, k_pos, k_step, q_pos, q_step, dist_min, dist_max) in enumerate(runs):
                for c in range(count):
                    if dist_min <= (q_first + t) - (first + c) <= dist_max:
                        a = rotate(q[t, h], q_pos + t * q_step, **rope)
                        b = rotate(k[first + c, h // (H // Hk)], k_pos + c * k_step, **rope)
                        score.append(scale * (a @ b))
                        at.append((r, c))
            weight, _ = softmax_rows(np.array(score))
            for (r, c), w in zip(at, weight):
                if r == run:
                    mass[h, c] += w
    words("case", T, n, q_first, H, Hk, D, int(neox), n_rot, float(base), scale, run)
    array("runs", np.array(runs, dtype=np.int64))
    for name, x in (("q", q), ("k", k), ("mass", mass)):
        array(name, x)


head("mass")
rng = np.random.default_rng(11)
# causal over everything
case(rng, T=3, n=9, q_first=6, H=2, Hk=1, D=8, neox=True, n_rot=8, base=1e4,
     runs=[(0, 9, 0, 1, 6, 1, 0, FAR)], run=0)
# a window with its own distances, and all that is farther at one
case(rng, T=4, n=16, q_first=12, H=4, Hk=2, D=8, neox=False, n_rot=8, base=1e4,
     runs=[(0, 12, 0, 0, 4, 0, 5, FAR), (8, 8, 0, 1, 4, 1, 0, 4)], run=1)
case(rng, T=4, n=16, q_first=12, H=4, Hk=2, D=8, neox=True, n_rot=6, base=500.0,
     runs=[(0, 12, 0, 0, 4, 0, 5, FAR), (8, 8, 0, 1, 4, 1, 0, 4)], run=0)
