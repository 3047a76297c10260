"""Frequencies of the methods that change rotations (ntk, dynamic-ntk, yarn) and of CLEX's ODE, in float64."""
import numpy as np

from golden import array, f32, head, words


def plain(n_rot, base):
    return base ** (-2.0 * np.arange(n_rot // 2) / n_rot)


def ntk(n_rot, base, a):
    return plain(n_rot, base * a ** (n_rot / (n_rot - 2)))


def yarn(n_rot, base, trained, scale):
    """As the paper has it: dim(r) is the pair that turns r times in the trained length."""
    def dim(r):
        return n_rot * np.log(trained / (2 * np.pi * r)) / (2 * np.log(base))
    lo, hi = max(np.floor(dim(32)), 0), min(np.ceil(dim(1)), n_rot - 1)
    ramp = np.clip((np.arange(n_rot // 2) - lo) / max(hi - lo, 0.001), 0, 1)
    freq = plain(n_rot, base)
    return freq * (1 - ramp) + freq / scale * ramp, 1 + 0.1 * np.log(scale)


def clex(up, down, silu, base, max_t, steps=1000):
    """z at t = 1 .. max_t; a finer RK4 than the one under test."""
    pairs = up.shape[0]
    D, c = 2 * pairs, np.arange(pairs)

    def slope(t, z):
        a = max(2 * t - 1, 1.0)
        log_ntk = -2 * c / D * np.log(10000.0 * a ** (D / (D - 2)))
        x = (z + log_ntk) @ up
        return (x / (1 + np.exp(-x)) if silu else np.tanh(x)) @ down - 2 * (2 * c) / ((D - 2) * a)

    z, out, h = -2 * c / D * np.log(base), [], 1.0 / steps
    out.append(z)
    for t in range(1, max_t):
        for i in range(steps):
            at = t + i * h
            k1 = slope(at, z)
            k2 = slope(at + h / 2, z + h / 2 * k1)
            k3 = slope(at + h / 2, z + h / 2 * k2)
            k4 = slope(at + h, z + h * k3)
            z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        out.append(z)
    return np.array(out)


def stretch_case(policy, n_rot, base, trained, scale, n):
    size = 1.0
    factor = scale or max(-(-n // trained), 1)
    if policy == "ntk":
        freq = ntk(n_rot, base, factor) if factor > 1 else plain(n_rot, base)
    elif policy == "dynamic-ntk":
        s, length = scale or 2, -(-n // 256) * 256
        freq = ntk(n_rot, base, s * length / trained - (s - 1)) if n > trained else plain(n_rot, base)
    else:
        freq, size = yarn(n_rot, base, trained, factor) if factor > 1 else (plain(n_rot, base), 1.0)
    words("stretch", policy, n_rot, float(base), trained, scale, n, float(size))
    array("freq", freq)


def clex_case(rng, pairs, times, silu, base, max_t, size):
    up, down = (f32(rng.standard_normal(s) * size) for s in ((pairs, 2 * times * pairs), (2 * times * pairs, pairs)))
    words("clex", pairs, up.shape[1], int(silu), float(base), max_t)
    array("up", up)
    array("down", down)
    array("z", clex(up, down, silu, base, max_t))


head("stretch")
for n_rot, base, trained in ((64, 10000.0, 2048), (128, 500000.0, 8192), (8, 10000.0, 512)):
    for policy in ("ntk", "dynamic-ntk", "yarn"):
        for scale, n in ((0, trained), (0, trained + 1), (0, 5 * trained - 3), (4, 100), (4, 2 * trained),
                         (1, trained + 9)):
            stretch_case(policy, n_rot, base, trained, scale, n)
rng = np.random.default_rng(11)
clex_case(rng, 4, 1, False, 10000.0, 4, 0.0)  # nothing learned: NTK with 2t - 1
clex_case(rng, 4, 1, False, 10000.0, 6, 0.2)
clex_case(rng, 8, 2, True, 500000.0, 5, 0.05)
