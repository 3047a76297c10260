/* tier.cu - see tier.h. One block a list finds out what a scope wants and where it goes: what the pool holds already is
 * looked up in the list of the last step, the rest gets slots that this step does not use. Many blocks then copy. */
#include "block_scan.cuh"
#include "store.h"
#include "tier.h"
extern "C" {
#include "policy/local.h"
}

using namespace reattn_cuda;

namespace
{

enum {
    THREADS = 1024,
    WARPS = THREADS / WARP,
    COPY_THREADS = 512,
    COPY_BLOCKS = 264,
    AT_ONCE = 4,
    RING_MORE = 192,
    NEAR_MAX = 12288
};

/* A token and the slot that it goes to, of all. */
struct alignas(8) errand {
    int token, slot;
};

struct task {
    /* the scope, as reattn__cuda_scope has it */
    const int32_t *tokens, *count;
    int room_in, head, skip, most;
    /* the tier */
    int ring, keep, pool, room, from, sound, step, near; /* near: tokens held for which there is shared memory */
    const int32_t *held, *slots, *n_held;
    int32_t *held_next, *slots_next, *n_next, *marks;
    unsigned long long *counts;
    /* written */
    int32_t *at, *positions, *n_at; /* [lists][room], positions or NULL, [lists] */
    errand *wanted;                 /* [lists][pool] */
    int32_t *spare, *n_wanted;      /* [lists][pool], [lists] */
    int heads;                      /* of a list */
};

struct copies {
    const uint16_t *k, *v;
    uint16_t *k_near, *v_near;
    const errand *wanted; /* [lists][pool]; or NULL: tokens [first, first + count) go to the ring */
    const int32_t *n_wanted;
    int pool, first, count, ring, row, part; /* values of a row of all heads, and of those that a list copies */
};

/* Where each x is among n ascending numbers, or -1. */
template <int N> __device__ __forceinline__ void look_up(const int32_t *in, int n, const int (&x)[N], int (&at)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        at[i] = 0;
    int left = n;
    while (left > 1) {
        const int half = left / 2;
#pragma unroll
        for (int i = 0; i < N; i++)
            at[i] += in[at[i] + half - 1] < x[i] ? half : 0;
        left -= half;
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        at[i] += n > 0 && in[at[i]] < x[i];
        at[i] = at[i] < n && in[at[i]] == x[i] ? at[i] : -1;
    }
}

__global__ void __launch_bounds__(THREADS) bring_kernel(const __grid_constant__ task t)
{
    extern __shared__ int32_t here[]; /* [2][near]: what was held, and its slots, if it fits */
    __shared__ int sums[WARPS], chosen, wanted;
    const int list = blockIdx.x;
    const int32_t *held = t.held + (int64_t)list * t.pool, *slots = t.slots + (int64_t)list * t.pool;
    int32_t *held_next = t.held_next + (int64_t)list * t.pool, *slots_next = t.slots_next + (int64_t)list * t.pool;
    int32_t *marks = t.marks + (int64_t)list * t.pool, *spare = t.spare + (int64_t)list * t.pool;
    int32_t *at = t.at + (int64_t)list * t.room;
    /* Of the step before, so that nobody writes it now. */
    const int n_held = t.n_held[list];
    if (n_held <= t.near) {
#pragma unroll 4
        for (int i = threadIdx.x; i < n_held; i += THREADS) {
            here[i] = held[i];
            here[t.near + i] = slots[i];
        }
        held = here;
        slots = here + t.near;
    }
    if (threadIdx.x == 0)
        chosen = wanted = 0;
    wait_for_previous();
    let_next_start();
    __syncthreads();
    /* Tokens ascend: the first ones, which are all in scope, those of the pool, the last ones. What is in the pool already
     * stays where it is. */
    const int count = t.count ? t.count[list] : t.most, first = min(min(t.keep, t.from), count);
    int n = 0, missing = 0;
    for (int base = threadIdx.x; base < count; base += AT_ONCE * THREADS) {
        int token[AT_ONCE], found[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int i = min(base + u * THREADS, count - 1);
            token[u] = t.tokens ? t.tokens[(int64_t)list * t.room_in + i] : i < t.head ? i : i + t.skip;
        }
        if (token[0] < t.from) /* else they are all in the ring */
            look_up(held, n_held, token, found);
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int i = base + u * THREADS, x = token[u];
            if (i >= count)
                break;
            if (t.positions)
                t.positions[(int64_t)list * t.room + i] = x;
            if (x >= t.from || x < t.keep) {
                at[i] = x >= t.from ? x % t.ring : t.ring + x;
                continue;
            }
            const int slot = x >= t.sound || found[u] < 0 ? -1 : slots[found[u]];
            if (slot >= 0) {
                marks[slot] = t.step;
                at[i] = t.ring + t.keep + slot;
            }
            held_next[i - first] = x;
            slots_next[i - first] = slot;
            n++;
            missing += slot < 0;
        }
    }
    n = __reduce_add_sync(ALL, n);
    missing = __reduce_add_sync(ALL, missing);
    if (threadIdx.x % WARP == 0) {
        atomicAdd(&chosen, n);
        atomicAdd(&wanted, missing);
    }
    __syncthreads();
    n = chosen, missing = wanted;
    if (threadIdx.x == 0) {
        t.n_at[list] = count;
        t.n_next[list] = n;
        t.n_wanted[list] = missing;
        if (missing)
            atomicAdd(t.counts + 1, (unsigned long long)missing * t.heads);
    }

    /* The others get the first slots that are not in use. */
    int all;
    for (int base = 0, got = 0; got < missing && base < t.pool; base += THREADS) {
        const int slot = base + threadIdx.x;
        const bool is = slot < t.pool && marks[slot] != t.step;
        const int number = got + block_scan(is, sums, &all);
        if (is && number < missing)
            spare[number] = slot;
        got += all;
    }
    __syncthreads();
    for (int base = 0, got = 0; got < missing && base < n; base += THREADS) {
        const int i = base + threadIdx.x;
        const bool is = i < n && slots_next[i] < 0;
        const int number = got + block_scan(is, sums, &all);
        if (is) {
            const int slot = spare[number];
            slots_next[i] = slot;
            at[first + i] = t.ring + t.keep + slot;
            t.wanted[(int64_t)list * t.pool + number] = {held_next[i], t.ring + t.keep + slot};
        }
        got += all;
    }
}

/* A thread copies 16 bytes of keys or values at a time, several on their way. */
__global__ void __launch_bounds__(COPY_THREADS) copy_kernel(const __grid_constant__ copies c)
{
    wait_for_previous();
    let_next_start();
    const int list = blockIdx.y;
    const unsigned pieces = c.part / 8, wanted = c.wanted ? c.n_wanted[list] : c.count, all = wanted * 2 * pieces;
    const unsigned step = gridDim.x * COPY_THREADS;
    for (unsigned base = blockIdx.x * COPY_THREADS + threadIdx.x; base < all; base += AT_ONCE * step) {
        uint4 x[AT_ONCE], *to[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const unsigned p = base + i * step, which = p / (2 * pieces), piece = p % (2 * pieces);
            if (p >= all)
                break;
            const errand e = c.wanted ? c.wanted[(int64_t)list * c.pool + which]
                                      : errand{c.first + (int)which, (c.first + (int)which) % c.ring};
            const int64_t in = (int64_t)list * c.part + piece % pieces * 8;
            x[i] = __ldcs((const uint4 *)((piece < pieces ? c.k : c.v) + (int64_t)e.token * c.row + in));
            to[i] = (uint4 *)((piece < pieces ? c.k_near : c.v_near) + (int64_t)e.slot * c.row + in);
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            if (base + i * step < all)
                *to[i] = x[i];
    }
}

/* Places the scratch of a step; returns its bytes. */
size_t place(const reattn__cuda_tier *t, void *work, task *s)
{
    char *at = (char *)work;
    auto take = [&](size_t bytes) {
        char *here = at;
        at += (bytes + 255) / 256 * 256;
        return here;
    };
    s->at = (int32_t *)take(sizeof(int32_t) * t->lists * t->room);
    s->positions = (int32_t *)take(sizeof(int32_t) * t->lists * t->room);
    s->n_at = (int32_t *)take(sizeof(int32_t) * t->lists);
    s->wanted = (errand *)take(sizeof(errand) * t->lists * t->pool);
    s->spare = (int32_t *)take(sizeof(int32_t) * t->lists * t->pool);
    s->n_wanted = (int32_t *)take(sizeof(int32_t) * t->lists);
    return (size_t)(at - (char *)work);
}

struct piece {
    void **at;
    size_t bytes;
};

/* What open takes: all but rows starts as zeros. */
void pieces_of(reattn__cuda_tier *t, piece (&p)[7])
{
    const size_t rows = sizeof(uint16_t) * (t->ring + t->keep + t->pool) * t->Hk * t->D;
    const size_t slots = sizeof(int32_t) * t->lists * (t->pool > 0 ? t->pool : 1);
    p[0] = {&t->k, rows}, p[1] = {&t->v, rows};
    p[2] = {(void **)&t->held, 2 * slots}, p[3] = {(void **)&t->slots, 2 * slots};
    p[4] = {(void **)&t->n_held, 2 * sizeof(int32_t) * t->lists}, p[5] = {(void **)&t->marks, slots};
    p[6] = {(void **)&t->counts, 2 * sizeof *t->counts};
}

copies copies_of(const reattn__cuda_tier *t, const reattn__cuda_layer *l)
{
    copies c = {};
    c.k = (const uint16_t *)l->k.at, c.v = (const uint16_t *)l->v.at;
    c.k_near = (uint16_t *)t->k, c.v_near = (uint16_t *)t->v;
    c.pool = (int)t->pool, c.ring = (int)t->ring, c.row = t->Hk * t->D, c.part = c.row;
    return c;
}

} // namespace

/* The ring: what a step's last tokens can be at most, and what the index lags behind by: a step and a tile of it. Then what
 * fell into the middle since the step before, whose keys the window of queries has to meet, is there, too. */
extern "C" reattn__cuda_tier reattn__cuda_tier_for(const reattn__cuda_context_args *a, int i)
{
    const reattn_session_params *p = a->params;
    const bool recalls = a->policy == REATTN__CUDA_REATTENTION;
    const int64_t most = reattn__most_tokens(p), last = reattn__last_tokens(p, most);
    const int64_t step = p->chunk > 0 ? REATTN__MIN(p->chunk, most) : most;
    const int64_t recalled = recalls ? p->recall_max * p->recall_span : 0, whole = recalls ? p->recall_from : 0;
    reattn__cuda_tier t = {};
    t.Hk = a->layers[i].Hk, t.D = a->layers[i].D, t.lists = recalls && p->recall_per_head ? t.Hk : 1;
    t.ring = (last + step + RING_MORE + 63) / 64 * 64, t.keep = p->keep;
    t.pool = REATTN__MAX(recalled, whole - t.ring);
    t.pool = REATTN__MAX(t.pool, (int64_t)0);
    t.room = REATTN__MAX(p->keep + last + recalled, whole);
    return t;
}

extern "C" int reattn__cuda_tier_open(reattn__cuda_tier *t, reattn_error *err)
{
    piece p[7];
    pieces_of(t, p);
    t->from = t->sound = 0;
    t->step = t->which = 0;
    cudaError_t code = cudaSuccess;
    for (int i = 0; i < 7 && code == cudaSuccess; i++) {
        code = cudaMalloc(p[i].at, p[i].bytes);
        if (code == cudaSuccess)
            code = cudaMemsetAsync(*p[i].at, 0, p[i].bytes, NULL);
    }
    if (code == cudaSuccess)
        code = cudaStreamSynchronize(NULL); /* steps come on other streams */
    return failed(code, "taking memory for keys and values in scope", err);
}

extern "C" void reattn__cuda_tier_close(reattn__cuda_tier *t)
{
    piece p[7];
    pieces_of(t, p);
    for (int i = 0; i < 7; i++) {
        cudaFree(*p[i].at);
        *p[i].at = NULL;
    }
}

extern "C" uint64_t reattn__cuda_tier_bytes(const reattn__cuda_tier *t)
{
    piece p[7];
    uint64_t bytes = 0;
    reattn__cuda_tier like = *t;
    pieces_of(&like, p);
    for (int i = 0; i < 7; i++)
        bytes += p[i].bytes;
    return bytes;
}

extern "C" void reattn__cuda_tier_rewind(reattn__cuda_tier *t, int64_t n)
{
    t->from = REATTN__MIN(t->from, n);
    t->sound = REATTN__MIN(t->sound, n);
}

extern "C" int reattn__cuda_tier_ready(reattn__cuda_tier *t, const reattn__cuda_layer *l, int64_t T, void *stream,
                                       reattn_error *err)
{
    const int64_t first = REATTN__MAX(l->n + T - t->ring, (int64_t)0), end = REATTN__MIN(t->from, l->n);
    int code = REATTN_OK;
    if (first < end) {
        copies c = copies_of(t, l);
        c.first = (int)first, c.count = (int)(end - first);
        code = failed(launch_next(copy_kernel, dim3(COPY_BLOCKS), COPY_THREADS, 0, (cudaStream_t)stream, c),
                      "bringing back the last tokens", err);
    }
    t->from = first; /* after the step */
    return code;
}

extern "C" size_t reattn__cuda_tier_scratch(const reattn__cuda_tier *t)
{
    task s;
    return place(t, NULL, &s);
}

extern "C" int reattn__cuda_tier_bring(reattn__cuda_tier *t, const reattn__cuda_layer *l, reattn__cuda_scope *scope,
                                       void *work, void *stream, reattn_error *err)
{
    task s = {};
    cudaStream_t on = (cudaStream_t)stream;
    const int64_t set = (int64_t)t->lists * t->pool;
    const int next = 1 - t->which;
    (void)place(t, work, &s);
    if (scope->most > t->room || (scope->tokens && scope->lists != t->lists))
        return reattn__fail(err, REATTN_E_INTERNAL, "a scope of %lld tokens, the device has room for %lld",
                            (long long)scope->most, (long long)t->room);
    if (!scope->original)
        s.positions = NULL;
    s.tokens = scope->tokens, s.count = scope->count, s.room_in = (int)scope->room;
    s.head = (int)scope->head, s.skip = (int)scope->skip, s.most = (int)scope->most;
    s.ring = (int)t->ring, s.keep = (int)t->keep, s.pool = (int)t->pool, s.room = (int)t->room;
    s.from = (int)t->from, s.sound = (int)t->sound, s.step = ++t->step;
    s.held = t->held + t->which * set, s.slots = t->slots + t->which * set, s.n_held = t->n_held + t->which * t->lists;
    s.held_next = t->held + next * set, s.slots_next = t->slots + next * set, s.n_next = t->n_held + next * t->lists;
    s.marks = t->marks, s.counts = t->counts, s.heads = t->lists > 1 ? 1 : t->Hk;
    s.near = t->pool <= NEAR_MAX ? (int)t->pool : 0;
    const size_t shared = 2 * sizeof(int32_t) * s.near;
    int code = failed(allow_shared<bring_kernel>(2 * sizeof(int32_t) * NEAR_MAX), "looking at the device", err);
    if (code == REATTN_OK)
        code = failed(launch_next(bring_kernel, dim3(t->lists), THREADS, shared, on, s), "looking for a scope's tokens",
                      err);
    if (code)
        return code;
    t->which = next;
    t->sound = INT32_MAX;
    copies c = copies_of(t, l);
    c.wanted = s.wanted, c.n_wanted = s.n_wanted, c.part = c.row / t->lists;
    const dim3 blocks(REATTN__MAX(COPY_BLOCKS / t->lists, 1), t->lists);
    code = failed(launch_next(copy_kernel, blocks, COPY_THREADS, 0, on, c), "bringing tokens", err);
    scope->alike = !scope->tokens;
    scope->tokens = s.at, scope->count = s.n_at, scope->positions = s.positions, scope->room = t->room;
    scope->lists = t->lists, scope->ring = t->ring, scope->rows = t->ring + t->keep + t->pool;
    return code;
}

extern "C" int reattn__cuda_tier_traffic(const reattn__cuda_tier *t, uint64_t *scored, uint64_t *brought, void *stream,
                                         reattn_error *err)
{
    unsigned long long counts[2] = {0, 0};
    cudaStream_t on = (cudaStream_t)stream;
    cudaError_t code = cudaSuccess;
    if (t->counts)
        code = cudaMemcpyAsync(counts, t->counts, sizeof counts, cudaMemcpyDeviceToHost, on);
    if (code == cudaSuccess)
        code = cudaStreamSynchronize(on);
    *scored = counts[0], *brought = counts[1];
    return failed(code, "reading what came from the host", err);
}
