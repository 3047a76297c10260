"""What the golden scripts share: the text format that tests/test_util.h reads, and rotary embedding in float64.

Each script prints one file: python3 tests/golden/NAME.py > tests/data/NAME.txt
The computations are written from the paper and from docs, not from the C code."""
import sys

import numpy as np


def head(kind, version=1):
    print(f"reattn-golden {kind} {version}")
    print(f"# regenerate: python3 tests/golden/{kind}.py > tests/data/{kind}.txt")


def words(*values):
    """Integers and names as they are, floats with as many digits as they need to be read back exactly."""
    print(*(repr(v) if isinstance(v, float) else v for v in values))


def array(name, values):
    flat = np.asarray(values).reshape(-1)
    convert = float if flat.dtype.kind == "f" else int
    words(name, len(flat), *(convert(v) for v in flat))


def f32(x):
    """Rounded to what a float32 holds, kept in float64."""
    return np.asarray(x, dtype=np.float64).astype(np.float32).astype(np.float64)


def normal(rng, *shape):
    """Standard normal numbers on a grid of 1/32: few digits in the files, and sums of products are exact."""
    return np.round(rng.standard_normal(shape) * 32) / 32


def rope_angles(pos, *, n_rot, base, linear=1.0, factors=None, yarn=None):
    """Angles [n_rot/2] at a position, and the factor on cos and sin. yarn: (mix, trained length, fast, slow)."""
    i = np.arange(n_rot // 2)
    freq = base ** (-2.0 * i / n_rot)
    if factors is not None:
        freq = freq / factors
    size = 1.0
    stretched = freq * linear
    if yarn is not None:
        mix, trained, fast, slow = yarn

        def index_of(turns):  # the (real) index of the wave that turns so many times in the trained length
            return n_rot * np.log(trained / (2 * np.pi * turns)) / (2 * np.log(base))

        first = max(0.0, np.floor(index_of(fast)))
        last = min(n_rot - 1.0, np.ceil(index_of(slow)))
        own = mix * (1.0 - np.clip((i - first) / max(last - first, 0.001), 0.0, 1.0))
        stretched = stretched * (1.0 - own) + freq * own
        size = 1.0 + 0.1 * np.log(1.0 / linear)
    return pos * stretched, size


def rotate(x, pos, *, neox, n_rot, attn_factor=1.0, **scaling):
    """x [..., D] rotated as if at pos."""
    angle, size = rope_angles(pos, n_rot=n_rot, **scaling)
    turn = np.exp(1j * angle) * size * attn_factor
    part = x[..., :n_rot]
    if neox:
        pair = part[..., : n_rot // 2] + 1j * part[..., n_rot // 2:]
    else:
        pair = part[..., 0::2] + 1j * part[..., 1::2]
    pair = pair * turn
    y = np.array(x, dtype=np.float64)
    if neox:
        y[..., : n_rot // 2], y[..., n_rot // 2: n_rot] = pair.real, pair.imag
    else:
        y[..., 0:n_rot:2], y[..., 1:n_rot:2] = pair.real, pair.imag
    return y


def softmax_rows(score):
    """Softmax over the last axis and its log sum exp; rows of nothing but -inf give zeros and -inf."""
    with np.errstate(invalid="ignore", divide="ignore"):
        top = np.max(score, axis=-1, keepdims=True)
        top = np.where(np.isfinite(top), top, 0.0)
        e = np.exp(score - top)
        total = e.sum(axis=-1, keepdims=True)
        return np.where(total > 0, e / np.where(total > 0, total, 1.0), 0.0), (top + np.log(total))[..., 0]


if __name__ == "__main__":
    sys.exit(__doc__)
