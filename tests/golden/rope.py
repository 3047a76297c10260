"""Rotations in float64: plain, linear, Llama 3 factors, YaRN; both kinds; partial dims."""
import numpy as np

from golden import array, f32, head, normal, rotate, words


def llama3_factors(n_rot, base, factor=8.0, low=1.0, high=4.0, old=8192):
    """Divisors of the frequencies, by wavelength."""
    freq = base ** (-2.0 * np.arange(n_rot // 2) / n_rot)
    wave = 2 * np.pi / freq
    blend = (old / wave - low) / (high - low)
    mixed = 1.0 / ((1 - blend) / factor + blend)
    return f32(np.where(wave < old / high, 1.0, np.where(wave > old / low, factor, mixed)))


def case(rng, name, *, neox, D, n_rot, base, linear=1.0, factors=None, yarn=None, attn=1.0, positions):
    x = normal(rng, len(positions), D)
    y = np.stack([rotate(x[i], p, neox=neox, n_rot=n_rot, base=base, linear=linear, factors=factors, yarn=yarn,
                         attn_factor=attn) for i, p in enumerate(positions)])
    mix, trained, fast, slow = yarn or (0.0, 8192, 32.0, 1.0)
    words("case", name, int(neox), D, n_rot, trained, float(base), float(linear), mix, float(attn), fast, slow)
    array("factors", np.array([]) if factors is None else factors)
    array("pos", np.array(positions))
    array("x", x)
    array("y", y)


head("rope")
rng = np.random.default_rng(7)
few = [0, 1, 5, 31, 500, 4095, 8191]
for neox in (False, True):
    kind = "neox" if neox else "normal"
    case(rng, f"plain-{kind}", neox=neox, D=32, n_rot=32, base=10000.0, positions=few)
    case(rng, f"partial-{kind}", neox=neox, D=48, n_rot=20, base=10000.0, positions=few[1:])
    case(rng, f"linear-{kind}", neox=neox, D=32, n_rot=32, base=500000.0, linear=0.25, positions=few[1:])
    case(rng, f"llama3-{kind}", neox=neox, D=32, n_rot=32, base=500000.0, factors=llama3_factors(32, 500000.0),
         positions=few[1:])
    case(rng, f"yarn-{kind}", neox=neox, D=32, n_rot=32, base=10000.0, linear=0.25, yarn=(1.0, 2048, 32.0, 1.0),
         positions=few[1:])
    case(rng, f"yarn-half-{kind}", neox=neox, D=32, n_rot=24, base=1000000.0, linear=0.125,
         yarn=(0.5, 4096, 32.0, 1.0), attn=0.875, positions=few[2:])
