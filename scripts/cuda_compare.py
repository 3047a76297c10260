#!/usr/bin/env python3
"""Selection on one CUDA device beside PyTorch and an approximate Triton kernel, in one process.

    scripts/cuda_compare.py [--keys 131072 1048576] [--queries 1 512] [--reps 30] [--json FILE]

Builds src/cuda into a shared library (nvcc), calls it with ctypes. Times are medians of events around a call, with the
L2 cache overwritten before each; every timed result of ours is compared with the law on the same device, bit for bit.
Rivals: torch.einsum + torch.topk, scaled_dot_product_attention over all keys, and a Triton kernel of the approximate
rule: of each block of 128 keys only the best may enter a query's top 4.
"""
import argparse
import ctypes
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOP_K = 4
PATHS = {"auto": 0, "mma": 1, "wgmma": 2, "brute": 3}


# ------------------------------------------------------------------------------------------------- our library -------
class Keys(ctypes.Structure):
    _fields_ = [("k", ctypes.c_void_p), ("M", ctypes.c_int64), ("stride_key", ctypes.c_int64),
                ("stride_head", ctypes.c_int64), ("capacity", ctypes.c_int64), ("index", ctypes.c_void_p),
                ("type", ctypes.c_int), ("Hk", ctypes.c_int), ("D", ctypes.c_int), ("plane", ctypes.c_int), ("far", ctypes.c_void_p)]


class Args(ctypes.Structure):
    _fields_ = [("keys", Keys), ("q", ctypes.c_void_p), ("hits", ctypes.c_void_p), ("work", ctypes.c_void_p),
                ("work_bytes", ctypes.c_size_t), ("T", ctypes.c_int64), ("H", ctypes.c_int), ("top_k", ctypes.c_int),
                ("plane", ctypes.c_int), ("path", ctypes.c_int)]


class Report(ctypes.Structure):
    _fields_ = [("candidates", ctypes.c_int64), ("brute_rows", ctypes.c_int64)]


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("msg", ctypes.c_char * 504)]


def build(folder):
    """Compiles each file by itself, side by side; returns the library."""
    major, minor = torch.cuda.get_device_capability()
    arch = f"{major}{minor}" + ("a" if major == 9 else "")
    flags = ["-std=c++17", "-O3", f"-gencode=arch=compute_{arch},code=sm_{arch}", "-Xcompiler", "-fPIC",
             f"-I{ROOT}/include", f"-I{ROOT}/src"]
    objects, jobs = [], []
    for source in sorted(glob.glob(f"{ROOT}/src/cuda/*.cu")) + [
            f"{ROOT}/src/{c}.c" for c in ("base/base", "attend/rope", "cuda/runs_layout")]:
        objects.append(os.path.join(folder, os.path.basename(source) + ".o"))
        # Plain C has its own compiler.
        tool = ["nvcc", *flags] if source.endswith(".cu") else ["cc", "-O2", "-fPIC", f"-I{ROOT}/include", f"-I{ROOT}/src"]
        jobs.append(subprocess.Popen([*tool, "-c", source, "-o", objects[-1]]))
    if any(job.wait() for job in jobs):
        sys.exit("src/cuda could not be compiled")
    library = os.path.join(folder, "libreattn_cuda.so")
    subprocess.run(["nvcc", "-shared", "-o", library, *objects], check=True)
    return library


class Selection:
    """Keys with their index, and searches in them."""

    def __init__(self, lib, k, head_major):
        self.lib = lib
        M, Hk, D = (k.shape[1], k.shape[0], k.shape[2]) if head_major else k.shape
        size = lib.reattn__cuda_index_bytes(M, Hk, D, 1)
        self.index = torch.empty(size, dtype=torch.uint8, device="cuda")
        self.k = k
        self.keys = Keys(k.data_ptr(), M, D if head_major else Hk * D, M * D if head_major else D, M,
                         self.index.data_ptr(), 0 if k.dtype == torch.bfloat16 else 1, Hk, D, 1)
        self.call("reattn__cuda_index_make", self.keys, ctypes.c_int64(0))

    def call(self, name, first, *rest):
        error = Error()
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        if getattr(self.lib, name)(ctypes.byref(first), *(rest if name.endswith("make") else ()), stream,
                                   *(rest if not name.endswith("make") else ()), ctypes.byref(error)):
            sys.exit(error.msg.decode())

    def search(self, q, path, plane):
        """A function that searches, one that returns hits, one that says what happened."""
        T, H, _ = q.shape
        hits = torch.full((T, H, TOP_K, 2), -1, dtype=torch.int64, device="cuda")
        args = Args(self.keys, q.data_ptr(), hits.data_ptr(), 0, 0, T, H, TOP_K, plane, PATHS[path])
        work = torch.empty(self.lib.reattn__cuda_select_bytes(ctypes.byref(args)), dtype=torch.uint8, device="cuda")
        args.work, args.work_bytes = work.data_ptr(), work.numel()

        def report(keep=(q, hits, work)):
            out = Report()
            self.call("reattn__cuda_select_report", args, ctypes.byref(out))
            return out

        return lambda: self.call("reattn__cuda_select", args), hits, report


# ------------------------------------------------------------------------------------- the approximate rule ----------
@triton.jit
def approximate_kernel(q_ptr, k_ptr, out_ptr, T, M, H: tl.constexpr, G: tl.constexpr, D: tl.constexpr,
                       BT: tl.constexpr, BM: tl.constexpr):
    """q [H][T][D], k [Hk][M][D]: the best key of each block of BM may enter the top 4; out [H][T][4] positions."""
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    h = tl.program_id(1)
    d = tl.arange(0, D)
    q = tl.load(q_ptr + (h * T + t[:, None]) * D + d[None, :])
    base = k_ptr + (h // G) * M * D
    s0 = tl.full([BT], float("-inf"), tl.float32)
    s1, s2, s3 = s0, s0, s0
    p0 = tl.full([BT], -1, tl.int32)
    p1, p2, p3 = p0, p0, p0
    for m in range(0, M, BM):
        key = m + tl.arange(0, BM)
        k = tl.load(base + key[None, :].to(tl.int64) * D + d[:, None])
        score, at = tl.max(tl.dot(q, k), 1, return_indices=True)
        at = (at + m).to(tl.int32)
        b0, b1, b2, b3 = score > s0, score > s1, score > s2, score > s3
        s3 = tl.where(b3, tl.where(b2, s2, score), s3)
        p3 = tl.where(b3, tl.where(b2, p2, at), p3)
        s2 = tl.where(b2, tl.where(b1, s1, score), s2)
        p2 = tl.where(b2, tl.where(b1, p1, at), p2)
        s1 = tl.where(b1, tl.where(b0, s0, score), s1)
        p1 = tl.where(b1, tl.where(b0, p0, at), p1)
        s0 = tl.where(b0, score, s0)
        p0 = tl.where(b0, at, p0)
    out = out_ptr + (h * T + t) * 4
    tl.store(out, p0)
    tl.store(out + 1, p1)
    tl.store(out + 2, p2)
    tl.store(out + 3, p3)


def approximate(q, k):
    H, T, D = q.shape
    out = torch.empty(H, T, 4, dtype=torch.int32, device="cuda")
    configs = [(128, 128, 8, 3), (128, 128, 8, 2), (128, 128, 4, 3)]  # queries, keys, warps, stages

    def run(config):
        bt, bm, warps, stages = config
        approximate_kernel[(T // bt, H)](q, k, out, T, k.shape[1], H, H // k.shape[0], D, bt, bm, num_warps=warps,
                                         num_stages=stages)

    best = min(configs, key=lambda config: median(lambda: run(config), 5))
    return lambda: run(best), out


# ------------------------------------------------------------------------------------------------- measuring ---------
flush = None


def median(fn, reps):
    """Milliseconds; the L2 cache is overwritten before each call, which also hides the launches."""
    for _ in range(2):
        fn()
    times = []
    for _ in range(reps):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        fn()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def roofs(reps):
    a = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    copy = 2 * a.numel() / median(lambda: b.copy_(a), reps) / 1e6
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = 2 * 8192**3 / median(lambda: x @ y, reps) / 1e9
    return copy, product


def same(a, b):
    return bool((a == b).all())


def recall(approx, hits):
    """Share of the exact top 4, of which [H][T][4] positions hold; hits [T][H][4][2]."""
    exact = hits[..., 0].permute(1, 0, 2)
    return (exact[..., None] == approx[..., None, :]).any(-1).float().mean().item()


def compare(lib, shape, M, T, reps, rows):
    H, Hk, D = shape
    g = torch.Generator(device="cuda").manual_seed(M + T)
    q = torch.randn(T, H, D, device="cuda", generator=g).bfloat16().float()
    k = torch.randn(M, Hk, D, device="cuda", generator=g, dtype=torch.bfloat16)
    ours = Selection(lib, k, False)
    flops, wide, narrow = 2 * T * H * M * D, M * Hk * D * 2, M * Hk * (D + 16 / 128)

    def row(name, ms, bytes_read=None, **more):
        line = {"heads": f"{H}/{Hk}x{D}", "keys": M, "queries": T, "what": name, "ms": round(ms, 4),
                "TFLOP/s": round(flops / ms / 1e9, 1), "GB/s": round(bytes_read / ms / 1e6) if bytes_read else None, **more}
        rows.append(line)
        print("  ".join(f"{key} {value}" for key, value in line.items() if value is not None), flush=True)

    law, law_hits, _ = ours.search(q, "brute", 0)
    law()
    torch.cuda.synchronize()
    for path in ("mma", "wgmma") if T > 1 else ("mma",):
        if path == "mma" and T * M > 1 << 26:
            continue
        for plane in (0, 1):
            search, hits, report = ours.search(q, path, plane)
            search()
            done = report()
            ok = same(hits, law_hits)
            ms = median(search, reps)
            row(f"reattn {path} {'8-bit' if plane else 'bf16'}", ms, narrow if plane else wide, equal=ok and same(hits, law_hits),
                candidates=round(done.candidates / (T * H), 1), by_law=done.brute_rows)

    kt = k.transpose(0, 1).contiguous()  # [Hk][M][D], what suits PyTorch best
    qb = q.bfloat16()
    if T == 1:
        grouped = qb.view(Hk, H // Hk, D)
        row("torch einsum + topk", median(lambda: torch.topk(torch.einsum("hgd,hmd->hgm", grouped, kt), TOP_K), reps), wide)
    elif 2 * T * H * M < 20e9:
        grouped = qb.transpose(0, 1).reshape(Hk, H // Hk * T, D)
        row("torch einsum + topk", median(lambda: torch.topk(torch.einsum("hgd,hmd->hgm", grouped, kt), TOP_K), 5), wide)
    v = torch.randn(1, Hk, M, D, device="cuda", generator=g, dtype=torch.bfloat16)
    qs = qb.transpose(0, 1)[None]
    row("torch attention over all", median(
        lambda: F.scaled_dot_product_attention(qs, kt[None], v, enable_gqa=True), reps), 2 * wide)
    del v
    if T % 128 == 0 and M % 128 == 0:
        search, out = approximate(qb.transpose(0, 1).contiguous(), kt)
        search()
        row("triton approximate", median(search, reps), recall=round(recall(out, law_hits), 4))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, nargs="+", default=[131072, 1048576])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 512])
    parser.add_argument("--shape", type=int, nargs=3, default=[32, 8, 128], metavar=("H", "Hk", "D"))
    parser.add_argument("--reps", type=int, default=30)
    parser.add_argument("--lib", help="a built libreattn_cuda.so")
    parser.add_argument("--json", help="write all numbers there")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device")
    global flush
    flush = torch.empty(512 << 20, dtype=torch.uint8, device="cuda")
    with tempfile.TemporaryDirectory() as folder:
        lib = ctypes.CDLL(args.lib or build(folder))
    for name in ("index", "select"):
        getattr(lib, f"reattn__cuda_{name}_bytes").restype = ctypes.c_size_t
    lib.reattn__cuda_index_bytes.argtypes = [ctypes.c_int64, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    copy, product = roofs(args.reps)
    card = torch.cuda.get_device_name()
    print(f"{card}, PyTorch {torch.__version__}: copy {copy:.0f} GB/s, bf16 product {product:.0f} TFLOP/s", flush=True)
    rows = []
    for T in args.queries:
        for M in args.keys:
            compare(lib, args.shape, M, T, args.reps, rows)
            torch.cuda.empty_cache()
    if args.json:
        with open(args.json, "w") as out:
            json.dump({"card": card, "copy_GB/s": copy, "bf16_TFLOP/s": product, "rows": rows}, out, indent=1)
    if not all(line.get("equal", True) for line in rows):
        sys.exit("a result differs from the law")


if __name__ == "__main__":
    main()
