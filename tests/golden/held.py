"""The share of the last query's softmax over all keys that lies on those in scope, per head. Float64 throughout."""
import numpy as np

from golden import array, f32, head, normal, rotate, softmax_rows, words


def shares(q, k, scale, seen):
    of = np.arange(len(q)) // (len(q) // k.shape[1])
    score = scale * np.einsum("hd,jhd->hj", q, k[:, of])
    return softmax_rows(score)[0][:, seen].sum(-1)


def case(rng, n, H, Hk, D, runs, *, n_rot=None, neox=True, base=1e4):
    n_rot, scale = n_rot or D, float(f32(D**-0.5))
    q, k = 3 * normal(rng, H, D), normal(rng, n, Hk, D)
    seen = np.zeros(n, dtype=bool)
    for first, count in runs:
        seen[first:first + count] = True
    turn = dict(neox=neox, n_rot=n_rot, base=base)
    turned = np.stack([rotate(k[j], j, **turn) for j in range(n)])
    words("case", n, H, Hk, D, n_rot, "neox" if neox else "normal", base, scale)
    array("q", q)
    array("k", k)
    array("scope", seen.astype(int))
    array("free", shares(q, k, scale, seen))
    array("rotated", shares(rotate(q, n - 1, **turn), turned, scale, seen))


head("held")
rng = np.random.default_rng(17)
case(rng, 50, 4, 2, 8, [(0, 4), (17, 5), (38, 12)])
case(rng, 50, 6, 2, 8, [(0, 4), (40, 10)], neox=False)
case(rng, 40, 2, 2, 16, [(5, 3)], n_rot=8)
case(rng, 40, 3, 1, 16, [(0, 15), (16, 24)], n_rot=8, neox=False)
case(rng, 1, 2, 1, 8, [(0, 1)])
case(rng, 33, 4, 4, 8, [(0, 33)])
