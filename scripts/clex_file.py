"""Writes the GGUF file that --clex reads: what CLEX learned, as metadata arrays.

  clex_file.py OUT --up UP.npy --down DOWN.npy   from arrays U [D/2][h] and V [h][D/2]
  clex_file.py OUT --random SEED --dim D         small random ones, to try the machinery

Needs numpy and gguf (pip install gguf). docs/methods/clex.md says what the arrays are."""
import argparse

import gguf
import numpy as np


def arrays(args):
    if args.random is not None:
        rng = np.random.default_rng(args.random)
        half, hidden = args.dim // 2, args.dim
        return rng.normal(0, 0.02, (half, hidden)), rng.normal(0, 0.02, (hidden, half))
    up, down = np.load(args.up), np.load(args.down)
    if up.ndim != 2 or down.shape != up.shape[::-1]:
        raise SystemExit(f"up is {up.shape} and down {down.shape}: expected [D/2][h] and [h][D/2]")
    return up, down


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--up")
    parser.add_argument("--down")
    parser.add_argument("--random", type=int, metavar="SEED")
    parser.add_argument("--dim", type=int, default=64, help="rotated dimensions of a head (default 64)")
    parser.add_argument("--act", choices=("tanh", "silu"), default="silu")
    parser.add_argument("--max-t", type=int, default=16, help="longest text, in trained lengths (default 16)")
    parser.add_argument("--no-log-scale", action="store_true", help="do not sharpen logits past the trained length")
    args = parser.parse_args()
    if args.random is None and not (args.up and args.down):
        parser.error("give --up and --down, or --random")
    up, down = arrays(args)
    writer = gguf.GGUFWriter(args.out, "clex")
    for name, x in (("clex.up", up), ("clex.down", down)):
        # float32, as an array of floats: GGUFWriter packs Python floats so
        writer.add_array(name, [float(v) for v in np.asarray(x, dtype=np.float32).reshape(-1)])
    writer.add_string("clex.act", args.act)
    writer.add_uint32("clex.max_t", args.max_t)
    writer.add_bool("clex.log_scale", not args.no_log_scale)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


if __name__ == "__main__":
    main()
