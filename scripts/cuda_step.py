#!/usr/bin/env python3
"""The whole step of a layer on one CUDA device (append, select, vote, attend) beside PyTorch's attention over all keys.

    scripts/cuda_step.py [--keys 16384 131072 1048576] [--shape 32 8 128] [--reps 30] [--json FILE] [--kernels] [--host]
                         [--sessions 2 4 8]

One process, one card; times are medians of events around a step, the L2 cache overwritten before each. In the same run
a decode step's plan is compared with one made here in float64 (hits of the last 32 queries, votes, spans), and its
output with attention in float64 over that plan. Random normal keys in bfloat16; G 32, L 4096, k 4, s 32, m 127: a scope
of up to 8192 keys.

--sessions: instead, decode steps of several sessions, queued one after another, each on its stream, and together
(reattn__cuda_step_many): time on the host's clock from before the first launch to the end of the last, and of that
until all was queued.

--host: keys and values in the host's memory beside those on the device, both scanned by an 8-bit plane, and what comes over
the bus. Queries of decode are random, each by itself (the worst case), or each is 0.9 of the one before and 0.44 of a random
one.
"""
import argparse
import ctypes
import json
import statistics
import sys
import tempfile
import time

import torch
import torch.nn.functional as F

import cuda_compare
from cuda_compare import Error, median, roofs

KEEP, LOCAL, TOP_K, SPAN, MOST, WINDOW, BASE = 32, 4096, 4, 32, 127, 32, 500000.0
PER_STEP = 1  # REATTN_LOCAL_PER_STEP


class Rope(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("n_rot", ctypes.c_int), ("n_ctx_orig", ctypes.c_int),
                ("freq_base", ctypes.c_float), ("freq_scale", ctypes.c_float), ("ext_factor", ctypes.c_float),
                ("attn_factor", ctypes.c_float), ("beta_fast", ctypes.c_float), ("beta_slow", ctypes.c_float),
                ("freq_factors", ctypes.c_void_p)]


class Layer(ctypes.Structure):
    _fields_ = [("H", ctypes.c_int), ("Hk", ctypes.c_int), ("D", ctypes.c_int), ("Dv", ctypes.c_int),
                ("kq_scale", ctypes.c_float), ("rope", Rope)]


class Params(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("policy", ctypes.c_char * 24), ("keep", ctypes.c_int64),
                ("local", ctypes.c_int64), ("recall_k", ctypes.c_int64), ("recall_span", ctypes.c_int64),
                ("recall_max", ctypes.c_int64), ("recall_from", ctypes.c_int64), ("recall_window", ctypes.c_int64),
                ("tail", ctypes.c_int64), ("chunk", ctypes.c_int64), ("ctx_train", ctypes.c_int64),
                ("group", ctypes.c_int64), ("shift", ctypes.c_int64), ("scale", ctypes.c_int64),
                ("pot", ctypes.c_int64), ("pot_keep", ctypes.c_int64), ("pot_novelty", ctypes.c_int64),
                ("local_per", ctypes.c_int), ("recall_per_head", ctypes.c_int), ("recall_vote", ctypes.c_int),
                ("recall_type", ctypes.c_int), ("recall_when", ctypes.c_int), ("positions", ctypes.c_int),
                ("type_k", ctypes.c_int), ("type_v", ctypes.c_int), ("ctx_limit", ctypes.c_int64),
                ("mem_limit", ctypes.c_int64), ("n_threads", ctypes.c_int), ("flash", ctypes.c_int),
                ("engine", ctypes.c_int), ("store", ctypes.c_int), ("preset", ctypes.c_int), ("clex", ctypes.c_char * 256)]


class ContextArgs(ctypes.Structure):
    _fields_ = [("layers", ctypes.POINTER(Layer)), ("n_layer", ctypes.c_int), ("params", ctypes.POINTER(Params)),
                ("policy", ctypes.c_int), ("type", ctypes.c_int), ("plane", ctypes.c_int), ("capacity", ctypes.c_int64),
                ("host", ctypes.c_int)]


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("half", ctypes.c_int), ("stride_token", ctypes.c_int64),
                ("stride_head", ctypes.c_int64)]


class StepArgs(ctypes.Structure):
    _fields_ = [("layer", ctypes.c_int), ("T", ctypes.c_int64), ("decode", ctypes.c_int), ("q", Tensor), ("k", Tensor),
                ("v", Tensor), ("out", ctypes.c_void_p), ("out_stride_token", ctypes.c_int64),
                ("out_stride_head", ctypes.c_int64), ("plan", ctypes.c_void_p)]


class Member(ctypes.Structure):
    _fields_ = [("context", ctypes.c_void_p), ("args", StepArgs), ("stream", ctypes.c_void_p), ("code", ctypes.c_int),
                ("err", ctypes.POINTER(Error))]


class Context:
    """A context of one layer; steps take contiguous f32 tensors [T][heads][D]."""

    def __init__(self, lib, shape, plane, capacity, host=0):
        H, Hk, D = shape
        self.lib, self.shape, self.handle = lib, shape, ctypes.c_void_p()
        layer = Layer(H, Hk, D, D, D**-0.5, Rope(0, D, 8192, BASE, 1, 0, 1, 32, 1, None))
        params = Params(size=ctypes.sizeof(Params), policy=b"reattention", keep=KEEP, local=LOCAL, recall_k=TOP_K,
                        recall_span=SPAN, recall_max=MOST, recall_window=WINDOW, local_per=PER_STEP, chunk=512)
        args = ContextArgs(ctypes.pointer(layer), 1, ctypes.pointer(params), 0, 0, plane, capacity, host)
        self.call("context_create", ctypes.byref(args), ctypes.byref(self.handle))

    def call(self, name, *args):
        error = Error()
        if getattr(self.lib, "reattn__cuda_" + name)(*args, ctypes.byref(error)):
            sys.exit(error.msg.decode())

    def stream(self):
        return ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)

    def args(self, q, k, v, out, decode):
        H, Hk, D = self.shape
        return StepArgs(0, k.shape[0], decode, Tensor(q.data_ptr(), 0, H * D, D), Tensor(k.data_ptr(), 0, Hk * D, D),
                        Tensor(v.data_ptr(), 0, Hk * D, D), None if out is None else out.data_ptr(), 0, 0, None)

    def step(self, q, k, v, out, decode):
        self.call("step", self.handle, ctypes.byref(self.args(q, k, v, out, decode)), self.stream())

    def check(self):
        self.call("check", self.handle, self.stream())

    def rewind(self, n):
        self.call("rewind", self.handle, ctypes.c_int64(n))

    def spans(self):
        spans = (ctypes.c_int64 * (2 * MOST))()
        n, scope = ctypes.c_int64(), ctypes.c_int64()
        self.call("spans", self.handle, 0, 0, spans, ctypes.c_int64(MOST), ctypes.byref(n), ctypes.byref(scope),
                  self.stream())
        return [(spans[2 * i], spans[2 * i + 1]) for i in range(n.value)], scope.value

    def traffic(self):
        """Bytes that came from the host so far: keys that were scored, keys and values that came into scope."""
        scored, brought = ctypes.c_uint64(), ctypes.c_uint64()
        self.call("traffic", self.handle, 0, ctypes.byref(scored), ctypes.byref(brought), self.stream())
        return scored.value * self.shape[2] * 2, brought.value * self.shape[2] * 4

    def close(self):
        self.lib.reattn__cuda_context_free(self.handle)


def plan_here(queries, keys, shape):
    """Spans by the law, in float64: queries [W][H][D] f32, keys [n][Hk][D]."""
    H, Hk, D = shape
    n, votes, best = keys.shape[0], {}, {}
    for h in range(Hk):
        q = queries[:, h * (H // Hk):(h + 1) * (H // Hk)].reshape(-1, D).double()
        middle = keys[KEEP:n - LOCAL, h].double()
        score, at = torch.topk(q @ middle.T, TOP_K)
        for s, j in zip(score.flatten().tolist(), (at + KEEP).flatten().tolist()):
            votes[j] = votes.get(j, 0) + 1
            best[j] = max(best.get(j, s), s)
    kept = sorted(sorted(votes, key=lambda j: (-votes[j], -best[j], j))[:MOST])
    spans = []
    for j in kept:
        first, end = max(KEEP, j - SPAN // 2), min(n - LOCAL, j + (SPAN + 1) // 2)
        if spans and first <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([first, end])
    return [(a, b - a) for a, b in spans]


def attend_here(q, keys, values, spans, shape, low=False):
    """Attention of one query [H][D] in float64 over the plan; pairs (2i, 2i+1). low: what is rotated is rounded to bf16."""
    H, Hk, D = shape
    n = keys.shape[0]
    at = torch.cat([torch.arange(a, a + c) for a, c in [(0, KEEP), *spans, (n - LOCAL, LOCAL)]]).cuda()
    turn, step = [torch.arange(len(at)).float()], torch.tensor(BASE).pow(torch.tensor(-2.0 / D))
    while len(turn) < D // 2:
        turn.append(turn[-1] * step)  # in f32, one after the other, as the host model has it
    turn = torch.stack(turn, -1).double().cuda()

    def rotate(x, angles):
        c, s = angles.cos(), angles.sin()
        x = torch.stack([x[..., 0::2] * c - x[..., 1::2] * s, x[..., 0::2] * s + x[..., 1::2] * c], -1).flatten(-2)
        return x.bfloat16().double() if low else x

    k = rotate(keys[at].double(), turn[:, None]).repeat_interleave(H // Hk, 1)
    v = values[at].double().repeat_interleave(H // Hk, 1)
    p = torch.softmax(torch.einsum("hd,nhd->hn", rotate(q.double(), turn[-1]), k) * D**-0.5, -1)
    return torch.einsum("hn,nhd->hd", p, v)


def kernels(what, fn):
    """Time of each kernel of one call, medians of ten."""
    times = {}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as trace:
        for _ in range(10):
            cuda_compare.flush.zero_()
            fn()
        torch.cuda.synchronize()
    for event in trace.events():
        if event.device_time > 0 and "at::native" not in event.name:
            name = event.name.replace("(anonymous namespace)::", "").removeprefix("void ").split("(")[0]
            times.setdefault(name, []).append(event.device_time)
    parts = [f"{name} {statistics.median(us):.1f}" + (f" x{len(us) // 10}" if len(us) > 10 else "")
             for name, us in times.items()]
    print(f"    {what}: " + ", ".join(parts), "us", flush=True)


def compare(lib, shape, M, plane, args, rows, host=0):
    H, Hk, D = shape
    g = torch.Generator(device="cuda").manual_seed(M)
    rand = lambda *size: torch.randn(*size, device="cuda", generator=g).bfloat16().float()
    context = Context(lib, shape, plane, M + 16384, host)
    keys = torch.empty(M + 4096, Hk, D, device="cuda", dtype=torch.bfloat16)
    values = torch.empty_like(keys)
    n, queries = 0, []

    def step(T, decode, out=None):
        nonlocal n
        q, k, v = rand(T, H, D), rand(T, Hk, D), rand(T, Hk, D)
        keys[n:n + T], values[n:n + T] = k.bfloat16(), v.bfloat16()
        context.step(q, k, v, out, decode)
        n += T
        return q

    while n < M - 64:
        step(min(LOCAL, M - 64 - n), 0)
    out = torch.empty(1, H, D, device="cuda")
    queries.append(step(64, 0, torch.empty(64, H, D, device="cuda")))
    for _ in range(4):
        queries.append(step(1, 1, out))
    context.check()
    spans, scope = context.spans()
    want = plan_here(torch.cat(queries)[-WINDOW:], keys[:n], shape)
    law, low = (attend_here(queries[-1][0], keys[:n], values[:n], want, shape, low) for low in (False, True))
    error, allowed = (((x.double() - law).norm() / law.norm()).item() for x in (out[0], 2 * low - law))
    fine = spans == want and error <= allowed  # at most twice what rounding to bf16 would lose

    def row(what, ms, **more):
        rows.append({"heads": f"{H}/{Hk}x{D}", "keys": M, "what": what, "ms": round(ms, 4), **more})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)

    name = "on the host" if host else "8-bit plane" if plane else "bf16"
    q, k, v = rand(1, H, D), rand(1, Hk, D), rand(1, Hk, D)
    ms = median(lambda: context.step(q, k, v, out, 1), args.reps)
    row(f"decode step, {name}", ms, plan_equal=spans == want, scope=scope, error=f"{error:.1e}", ok=fine)
    if args.kernels:
        kernels(f"decode {M} {name}", lambda: context.step(q, k, v, out, 1))
    context.check()

    def traffic(fn, n):
        before, calls = context.traffic(), fn.calls
        ms = median(fn, n)
        calls = fn.calls - calls
        scored, brought = ((after - b) / calls for after, b in zip(context.traffic(), before))
        return ms, {"MB_scored": round(scored / 1e6, 3), "MB_brought": round(brought / 1e6, 3)} if host else {}

    for what, keeps in (("random", 0.0), ("correlated", 0.9)) if args.host else ():
        some = [rand(1, H, D)]
        for _ in range(127):
            some.append(keeps * some[-1] + (1 - keeps**2) ** 0.5 * rand(1, H, D))

        def follow():
            context.step(some[follow.calls % 128], k, v, out, 1)
            follow.calls += 1

        follow.calls = 0
        for _ in range(WINDOW):
            follow()
        ms, more = traffic(follow, args.reps)
        row(f"decode step, {what} queries, {name}", ms, **more)
    T = 512
    q, k, v, many = rand(T, H, D), rand(T, Hk, D), rand(T, Hk, D), torch.empty(T, H, D, device="cuda")

    def chunk():
        context.rewind(M)
        context.step(q, k, v, many, 0)

    if args.host:  # another chunk each time, the text grows
        many_q = [rand(T, H, D) for _ in range(4)]

        def chunk():
            context.step(many_q[chunk.calls % 4], k, v, many, 0)
            chunk.calls += 1

        chunk.calls = 0
        ms, more = traffic(chunk, 5)
        row(f"chunk of {T}, {name}", ms, **more)
    else:
        row(f"chunk of {T}, {name}", median(chunk, max(args.reps // 3, 5)))
    if args.kernels:
        kernels(f"chunk {M} {name}", chunk)
    context.check()
    context.close()


def several(lib, shape, M, plane, n, args, rows):
    """Decode steps of n sessions of M tokens each."""
    H, Hk, D = shape
    g = torch.Generator(device="cuda").manual_seed(M)
    rand = lambda *size: torch.randn(*size, device="cuda", generator=g)
    contexts = [Context(lib, shape, plane, M + 4096) for _ in range(n)]
    streams = [torch.cuda.Stream() for _ in range(n)]
    out = torch.empty(64, H, D, device="cuda")
    for context in contexts:
        held = 0
        while held < M - 64:
            T = min(LOCAL, M - 64 - held)
            context.step(rand(T, H, D), rand(T, Hk, D), rand(T, Hk, D), None, 0)
            held += T
        context.step(rand(64, H, D), rand(64, Hk, D), rand(64, Hk, D), out, 0)
        context.check()
    texts = [(rand(1, H, D), rand(1, Hk, D), rand(1, Hk, D), rand(1, H, D)) for _ in range(n)]
    steps = [context.args(*text, 1) for context, text in zip(contexts, texts)]
    handles = [ctypes.c_void_p(stream.cuda_stream) for stream in streams]
    calls = [(c.handle, ctypes.byref(s), h, None) for c, s, h in zip(contexts, steps, handles)]
    members = (Member * n)(*[Member(c.handle, s, h, 0, None) for c, s, h in zip(contexts, steps, handles)])

    def one_after_another():
        if any([lib.reattn__cuda_step(*call) for call in calls]):
            sys.exit("a step failed")

    def together():
        lib.reattn__cuda_step_many(members, n, n)
        if any(member.code for member in members):
            sys.exit("a step failed")

    torch.cuda.synchronize()
    for name, fn in (("one after another", one_after_another), ("together", together)):
        if fn is together and not hasattr(lib, "reattn__cuda_step_many"):
            continue
        times = []
        for i in range(args.reps + WINDOW):
            cuda_compare.flush.zero_()
            torch.cuda.synchronize()
            begin = time.perf_counter()
            fn()
            queued = time.perf_counter()
            for stream in streams:
                stream.synchronize()
            times.append((time.perf_counter() - begin, queued - begin))
        ms, launch = (statistics.median(column) * 1e3 for column in zip(*times[WINDOW:]))
        what = f"{n} sessions {name}, {'8-bit plane' if plane else 'bf16'}"
        rows.append({"heads": f"{H}/{Hk}x{D}", "keys": M, "what": what,
                     "ms": round(ms, 4), "ms_queueing": round(launch, 4)})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if args.kernels:
        kernels(f"together {n}", together)
    for context in contexts:
        context.check()
        context.close()


def rival(shape, M, args, rows):
    H, Hk, D = shape
    k, v = (torch.randn(1, Hk, M, D, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for T in (1, 512):
        q = torch.randn(1, H, T, D, device="cuda", dtype=torch.bfloat16)
        ms = median(lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True), args.reps if T == 1 else 5)
        rows.append({"heads": f"{H}/{Hk}x{D}", "keys": M, "what": f"torch attention, {T} queries", "ms": round(ms, 4)})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, nargs="+", default=[16384, 65536, 131072, 262144, 1048576])
    parser.add_argument("--shape", type=int, nargs=3, default=[32, 8, 128], metavar=("H", "Hk", "D"))
    parser.add_argument("--reps", type=int, default=30)
    parser.add_argument("--lib", help="a built libreattn_cuda.so")
    parser.add_argument("--json", help="write all numbers there")
    parser.add_argument("--warm", action="store_true", help="leave the L2 cache as the step before left it")
    parser.add_argument("--host", action="store_true", help="compare with keys and values in the host's memory")
    parser.add_argument("--sessions", type=int, nargs="+", default=[], help="time steps of so many sessions")
    parser.add_argument("--kernels", action="store_true", help="print the time of each kernel")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device")
    cuda_compare.flush = torch.empty(4096 if args.warm else 512 << 20, dtype=torch.uint8, device="cuda")
    with tempfile.TemporaryDirectory() as folder:
        lib = ctypes.CDLL(args.lib or cuda_compare.build(folder))
    copy, product = roofs(args.reps)
    card = torch.cuda.get_device_name()
    print(f"{card}, PyTorch {torch.__version__}: copy {copy:.0f} GB/s, bf16 product {product:.0f} TFLOP/s", flush=True)
    rows = []
    for M in args.keys if args.sessions else ():
        for plane in (0, 1):
            for n in args.sessions:
                several(lib, args.shape, M, plane, n, args, rows)
                torch.cuda.empty_cache()
    for M in () if args.sessions else args.keys:
        rival(args.shape, M, args, rows)
        torch.cuda.empty_cache()
        for plane, host in ((1, 0), (1, 1)) if args.host else ((0, 0), (1, 0)):
            compare(lib, args.shape, M, plane, args, rows, host)
            torch.cuda.empty_cache()
    if args.json:
        with open(args.json, "w") as out:
            json.dump({"card": card, "copy_GB/s": copy, "bf16_TFLOP/s": product, "rows": rows}, out, indent=1)
    if not all(line.get("ok", True) for line in rows):
        sys.exit("a plan or an output differs from the law")


if __name__ == "__main__":
    main()
