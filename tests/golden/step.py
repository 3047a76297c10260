"""A whole step of a layer: recall, votes, spans, positions, attention. Float64 throughout."""
import numpy as np

from golden import array, f32, head, normal, rotate, softmax_rows, words


def recall_scores(kind, q, k, v, last, keep, end):
    """Scores [query][head][key] of the middle, and for each head its KV head."""
    Hk = k.shape[1]
    if kind in ("k", "v"):
        x = k if kind == "k" else v
        return np.einsum("thd,jhd->thj", x[-last:], x[keep:end]), np.arange(HK)
    of = np.arange(q.shape[1]) // (q.shape[1] // Hk)
    score = np.einsum("thd,jhd->thj", q, k[keep:end][:, of])
    if kind == "qkv":
        score = score * np.abs(v[keep:end]).sum(-1)[:, of].T
    elif kind == "qkv2":
        score = score * np.sqrt((v[keep:end] ** 2).sum(-1))[:, of].T
    return score, of


def kept_of(score, top_k, vote, scale, m):
    """score [rows][keys] -> the middle indices that are kept."""
    votes = np.zeros(score.shape[1])
    chosen = np.zeros(score.shape[1], dtype=bool)
    best = np.full(score.shape[1], -np.inf)
    for row in score:
        hit = np.argsort(-row, kind="stable")[:top_k]
        z = np.exp(scale * (row[hit] - row[hit[0]]))
        votes[hit] += z / z.sum() if vote == "mass" else 1.0
        chosen[hit] = True
        best[hit] = np.maximum(best[hit], row[hit])
    order = np.lexsort((np.arange(len(votes)), -best, -votes))
    order = order[chosen[order]]
    if 0 < m < len(order) and vote == "mass":
        assert votes[order[m - 1]] - votes[order[m]] > 1e-9, "a tie by rounding: take another seed"
    return np.sort(order[:m])


def scope_of(kept, s, keep, end, n):
    wide = {p for j in kept for p in range(j - s // 2, j + (s + 1) // 2) if keep <= p < end}
    return np.array([*range(keep), *sorted(wide), *range(end, n)])


N, H, HK, D, DV = 44, 4, 2, 8, 6
SCALE = float(f32(D ** -0.5))


def case(history, *, n, T, n_query, G, L, top_k, s, m, kind="qk", per_head=False, vote="count", original=False):
    q, k, v = (x[:n] for x in history)
    q = q[n - n_query:]
    out = np.zeros((T, H, DV))
    words("case", n, T, n_query, G, L, top_k, s, m, kind, int(per_head), vote, int(original))

    recall = n > G + L
    end = n - L
    kept = [np.zeros(0, dtype=int)] * HK
    if recall and m > 0:
        score, of = recall_scores(kind, q, k, v, n_query, G, end)
        for kv in range(HK):
            mine = score[:, of == kv] if per_head else score
            kept[kv] = G + kept_of(mine.reshape(-1, end - G), top_k, vote, SCALE, m)
    for kv in range(HK):
        scope = scope_of(kept[kv], s, G, end, n) if recall else np.arange(n)
        k_pos = scope if original else np.arange(len(scope))
        q_pos = (n if original else len(scope)) - T
        keys = np.stack([rotate(k[j, kv], p, neox=True, n_rot=D, base=1e4) for j, p in zip(scope, k_pos)])
        for t in range(T):
            seen = scope <= n - T + t
            for h in range(kv * (H // HK), (kv + 1) * (H // HK)):
                x = rotate(q[n_query - T + t, h], q_pos + t, neox=True, n_rot=D, base=1e4)
                weight, _ = softmax_rows(np.where(seen, SCALE * (keys @ x), -np.inf))
                out[t, h] = weight @ v[scope, kv]
        if per_head or kv == 0:
            array("kept", kept[kv])
            array("scope", scope)
            array("k_pos", k_pos)
            words("q_pos", int(q_pos))
    array("out", out)


head("step")
rng = np.random.default_rng(13)
history = normal(rng, N, H, D), normal(rng, N, HK, D), normal(rng, N, HK, DV)
words("history", N, H, HK, D, DV, SCALE)
for name, x in zip("qkv", history):
    array(name, x)
case(history, n=10, T=4, n_query=4, G=4, L=6, top_k=2, s=4, m=3)
case(history, n=40, T=4, n_query=4, G=4, L=8, top_k=2, s=4, m=3)
case(history, n=40, T=4, n_query=4, G=4, L=8, top_k=2, s=4, m=3, per_head=True)
case(history, n=40, T=4, n_query=4, G=4, L=8, top_k=2, s=5, m=3, vote="mass")
case(history, n=44, T=1, n_query=6, G=2, L=8, top_k=2, s=3, m=4, vote="mass", per_head=True)
case(history, n=44, T=1, n_query=6, G=0, L=8, top_k=3, s=3, m=4, original=True)
case(history, n=40, T=3, n_query=3, G=4, L=8, top_k=2, s=4, m=0)
for kind in ("k", "v", "qkv", "qkv2"):
    case(history, n=30, T=3, n_query=3, G=3, L=6, top_k=2, s=4, m=3, kind=kind)
case(history, n=30, T=3, n_query=3, G=3, L=6, top_k=2, s=4, m=3, kind="k", per_head=True)
case(history, n=14, T=2, n_query=2, G=4, L=8, top_k=4, s=8, m=9)
