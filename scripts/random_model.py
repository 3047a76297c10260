#!/usr/bin/env python3
"""Writes a model of any size with random weights, to time programs on a shape whose weights are not at hand.

    scripts/random_model.py OUT.gguf --tokenizer MODEL.gguf [--layers 32] [--embd 4096] [--heads 32 8 128] ...

Without options: the shape of Llama 3.1 8B in Q4_0, 4.5 GB, trained length 8192. Its tokenizer is that of another GGUF file,
filled up with tokens that no text has. Blocks of weights are drawn as they are stored, so that a matrix keeps the size of
what passes through it; what such a model says means nothing. The same file for the same seed.

Needs the packages gguf and numpy. tests/tiny_models.py writes the small models of many architectures that tests read."""
import argparse
import multiprocessing
import os

import gguf
import numpy as np

PART = 1 << 19  # blocks that are drawn at a time


def blocks_q4_0(rng, n, std):
    """n blocks of a scale and 32 values of -8 .. 7 in 4 bits. Scales are of either sign: the values' mean is not 0."""
    x = np.empty((n, 18), np.uint8)
    scale = np.float16(std / np.sqrt(21.5)) * (1 - 2 * rng.integers(0, 2, n).astype(np.float16))
    x[:, :2] = scale.view(np.uint8).reshape(n, 2)
    x[:, 2:] = np.frombuffer(rng.bytes(16 * n), np.uint8).reshape(n, 16)
    return x


def blocks_q8_0(rng, n, std):
    """n blocks of a scale and 32 values of -128 .. 127."""
    x = np.empty((n, 34), np.uint8)
    scale = np.float16(std / np.sqrt(256 * 256 / 12)) * (1 - 2 * rng.integers(0, 2, n).astype(np.float16))
    x[:, :2] = scale.view(np.uint8).reshape(n, 2)
    x[:, 2:] = np.frombuffer(rng.bytes(32 * n), np.uint8).reshape(n, 32)
    return x


TYPES = {"q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0, 18, blocks_q4_0),
         "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0, 34, blocks_q8_0)}


def tensors(args, n_vocab):
    """(name, rows, columns, gain): a matrix keeps the size of what passes through, times gain; columns 0: ones."""
    n_head, n_head_kv, head_dim = args.heads
    q, kv = n_head * head_dim, n_head_kv * head_dim
    # As in tests/tiny_models.py: attention chooses (scores of std 2) and the logits differ (std 3).
    yield "token_embd", n_vocab, args.embd, 3.0
    yield "output_norm", args.embd, 0, 1.0
    yield "output", n_vocab, args.embd, 3.0
    for i in range(args.layers):
        for name, rows, columns, gain in (
                ("attn_norm", args.embd, 0, 1.0), ("attn_q", q, args.embd, 2.0), ("attn_k", kv, args.embd, 1.0),
                ("attn_v", kv, args.embd, 1.0), ("attn_output", args.embd, q, 1.0), ("ffn_norm", args.embd, 0, 1.0),
                ("ffn_gate", args.ffn, args.embd, 1.0), ("ffn_up", args.ffn, args.embd, 1.0),
                ("ffn_down", args.embd, args.ffn, 1.0)):
            yield f"blk.{i}.{name}", rows, columns, gain


def add_tokenizer(w, path, n_vocab):
    """Copies it; returns how many tokens there are now."""
    for field in gguf.GGUFReader(path).fields.values():
        if not field.name.startswith("tokenizer."):
            continue
        value = field.contents()
        if field.name in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores"):
            more = range(len(value), n_vocab)
            n_vocab = max(n_vocab, len(value))
            value += ([f"<unused {i}>" for i in more] if field.name.endswith("tokens") else
                      [gguf.TokenType.UNUSED if field.name.endswith("type") else 0.0 for _ in more])
        kind = field.types[0]
        w.add_key_value(field.name, value, kind, sub_type=field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    return n_vocab


def describe(args):
    """Writes all but the weights; returns tensors with their place in the file: (at, rows, columns, gain)."""
    n_head, n_head_kv, head_dim = args.heads
    dtype, file_type, block, _ = TYPES[args.type]
    w = gguf.GGUFWriter(args.out, "llama")
    w.add_name(f"random {args.layers} x {args.embd}")
    w.add_file_type(file_type)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_context_length(args.context)
    w.add_embedding_length(args.embd)
    w.add_block_count(args.layers)
    w.add_feed_forward_length(args.ffn)
    w.add_head_count(n_head)
    w.add_head_count_kv(n_head_kv)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_dimension_count(head_dim)
    w.add_rope_freq_base(args.base)
    w.add_layer_norm_rms_eps(1e-5)
    n_vocab = add_tokenizer(w, args.tokenizer, args.vocab)
    w.add_vocab_size(n_vocab)
    at, placed = 0, []
    for name, rows, columns, gain in tensors(args, n_vocab):
        size = rows * columns // 32 * block or rows * 4
        shape = (rows, columns // 32 * block) if columns else (rows,)
        w.add_tensor_info(name + ".weight", shape, np.dtype(np.uint8 if columns else np.float32), size,
                          raw_dtype=dtype if columns else None)
        placed.append((at, rows, columns, gain))
        at = gguf.GGUFWriter.ggml_pad(at + size, w.data_alignment)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    start = gguf.GGUFWriter.ggml_pad(w.fout[0].tell(), w.data_alignment)
    w.close()
    os.truncate(args.out, start + at)
    return [(start + at, *rest) for at, *rest in placed]


def draw(task):
    """Writes one part of a tensor."""
    out, kind, seed, at, n, std = task
    data = TYPES[kind][3](np.random.Generator(np.random.SFC64(seed)), n, std) if std else np.ones(n, np.float32)
    with open(out, "r+b") as f:
        f.seek(at)
        f.write(data.data)


def parts(args, placed):
    block = TYPES[args.type][2]
    for i, (at, rows, columns, gain) in enumerate(placed):
        if not columns:
            yield args.out, args.type, None, at, rows, 0.0
        n = rows * columns // 32
        for first in range(0, n, PART):
            seed = [args.seed, i, first]
            yield args.out, args.type, seed, at + first * block, min(PART, n - first), gain / np.sqrt(columns)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--tokenizer", required=True, metavar="MODEL", help="GGUF file whose tokenizer is taken")
    p.add_argument("--type", choices=TYPES, default="q4_0")
    p.add_argument("--layers", type=int, default=32)
    p.add_argument("--embd", type=int, default=4096)
    p.add_argument("--ffn", type=int, default=14336)
    p.add_argument("--heads", type=int, nargs=3, default=[32, 8, 128], metavar=("H", "HK", "D"))
    p.add_argument("--vocab", type=int, default=128256, help="at least as many tokens (default 128256)")
    p.add_argument("--context", type=int, default=8192, help="the trained length (default 8192)")
    p.add_argument("--base", type=float, default=500000.0, help="of RoPE (default 500000)")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    if args.embd % 32 or args.ffn % 32 or args.heads[0] * args.heads[2] % 32:
        p.error("--embd, --ffn and H x D must be multiples of 32")
    placed = describe(args)
    with multiprocessing.Pool() as pool:
        for _ in pool.imap_unordered(draw, parts(args, placed)):
            pass
    print(f"{args.out}: {os.path.getsize(args.out)} bytes")


if __name__ == "__main__":
    main()
