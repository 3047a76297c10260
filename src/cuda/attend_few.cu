/* attend_few.cu - attention of one query: the scope is cut into as many parts as there are multiprocessors; a block
 * takes a part for several KV heads, so that they share the rotations, a warp a stretch of a KV head's keys for up to
 * GT of its query heads.
 *
 * A key lies in LANES lanes, eight pairs each: 16 bytes of the first values and 16 of the second. What a lane will need
 * it copies ahead into shared memory, its own 16-byte places in STAGES stages: no lane reads what another copied, so
 * that nobody waits for anybody, and enough bytes are in flight. Each group of LANES lanes keeps a softmax of its own;
 * they are joined at the end.
 *
 * The last tokens are in scope whatever a plan recalls. While it is being made they are attended to at positions
 * 0 .. L-1 by a query at L-1: what counts is how far keys are from their query, and that stays the same when spans come
 * before them. Then the query is turned anew, to where it sits, for the other keys. */
#include "attend.cuh"

using namespace reattn_cuda;

namespace
{

enum { WARPS_MAX = 16, STAGES = 3, KEYS_AHEAD = 2, SLOTS = 4 * KEYS_AHEAD /* 16-byte places of a lane in a stage */ };
enum { LIKELY = 64 }; /* positions at which a query will probably sit */

template <int D> struct shape {
    static constexpr int LANES = D == 96 ? 8 : D / 16; /* of a key; 6 of 8 work where D is 96 */
    static constexpr int KEYS = WARP / LANES;          /* side by side */
    static constexpr int STEP = KEYS * KEYS_AHEAD;     /* of a stage, 32 is a multiple of it */
};

/* The scores of a stage's keys [GT][KEYS_AHEAD], as they end up spread over a key's lanes. */
template <int D, int GT> struct scores {
    static constexpr int COUNT = GT * KEYS_AHEAD, LANES = shape<D>::LANES;
    static constexpr int EACH = COUNT > LANES ? COUNT / LANES : 1; /* of a lane, in a row */
    static constexpr int SAME = LANES > COUNT ? LANES / COUNT : 1; /* lanes in a row that have the same */
    /* The lane (of a key) that has a score. */
    static constexpr __device__ int lane_of(int score) { return score / EACH * SAME; }
};

/* Sums x over the lanes of a key; each keeps its share of the sums at the beginning of x. */
template <int N, int LANES> __device__ __forceinline__ void sum_up(float (&x)[N], int in_key)
{
    int n = N;
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2) {
        if (n == 1) {
            x[0] += __shfl_xor_sync(ALL, x[0], step);
            continue;
        }
        n /= 2;
        const bool upper = in_key & step;
#pragma unroll
        for (int i = 0; i < n; i++) {
            const float other = upper ? x[i] : x[i + n], own = upper ? x[i + n] : x[i];
            x[i] = own + __shfl_xor_sync(ALL, other, step);
        }
    }
}

/* Sums the first N of x over lanes that differ in the bits LAST .. STEP; each keeps its share of the sums at the
 * beginning of x. Returns which is the first of them. */
template <int N, int STEP, int LAST, int ALL_OF> __device__ __forceinline__ int share_out(float (&x)[ALL_OF], int lane)
{
    const bool upper = lane & STEP;
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        const float other = upper ? x[i] : x[i + N / 2], own = upper ? x[i + N / 2] : x[i];
        x[i] = own + __shfl_xor_sync(ALL, other, STEP);
    }
    int from = upper ? N / 2 : 0;
    if constexpr (STEP > LAST)
        from += share_out<N / 2, STEP / 2, LAST>(x, lane);
    return from;
}

/* sum + a . b */
__device__ __forceinline__ float add4(float sum, const float (&a)[4], const float4 &b)
{
    return fmaf(a[3], b.w, fmaf(a[2], b.z, fmaf(a[1], b.y, fmaf(a[0], b.x, sum))));
}

/* What a block does. */
struct share {
    int groups; /* of query heads of a KV head: each is a unit */
    int units;  /* of a block: consecutive (KV head, group) */
    int parts;  /* warps of a unit */
};

/* Eight values in a row of pairs that are not aligned to 16 bytes. */
__device__ __noinline__ uint4 gather16(const attention &a, const uint16_t *row, int first_pair, bool second)
{
    uint32_t w[4];
    for (int i = 0; i < 4; i++) {
        const int p = first_pair + 2 * i;
        w[i] = pack16(row[pair_first(a, p) + (second ? pair_step(a, p) : 0)],
                      row[pair_first(a, p + 1) + (second ? pair_step(a, p + 1) : 0)]);
    }
    return {w[0], w[1], w[2], w[3]};
}

/* Pairs 4c .. 4c + 3 of the eight in the places x and x + WARP. */
template <int KIND>
__device__ __forceinline__ void unpack4(const uint4 *x, int c, bool neox, float (&a)[4], float (&b)[4])
{
    if (neox) {
        const uint2 v = *((const uint2 *)x + c), w = *((const uint2 *)(x + WARP) + c);
        a[0] = widen<KIND>((uint16_t)v.x), a[1] = widen<KIND>((uint16_t)(v.x >> 16));
        a[2] = widen<KIND>((uint16_t)v.y), a[3] = widen<KIND>((uint16_t)(v.y >> 16));
        b[0] = widen<KIND>((uint16_t)w.x), b[1] = widen<KIND>((uint16_t)(w.x >> 16));
        b[2] = widen<KIND>((uint16_t)w.y), b[3] = widen<KIND>((uint16_t)(w.y >> 16));
    } else {
        const uint4 v = x[c * WARP];
        const uint32_t w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[i] = widen<KIND>((uint16_t)w[i]), b[i] = widen<KIND>((uint16_t)(w[i] >> 16));
    }
}

/* While the plan is still being made: what it will probably want goes to the L2 cache, by all blocks together. What is
 * read here may be from an earlier plan, or from two; nothing of it may stay in the L1 cache. */
__device__ __forceinline__ void ask_for_likely(const attention &a, const float *rotation, int hk)
{
#if __CUDA_ARCH__ >= 900
    const int from = max(min(__ldcg(a.count + (a.lists > 1 ? hk : 0)), (int)a.most) - LIKELY / 2, 0);
    for (int i = threadIdx.x; i < min(LIKELY, (int)a.most - from) * a.D / 32; i += blockDim.x)
        ask_for(rotation + (int64_t)from * a.D + i * 32);
    const int width = (a.lists > 1 ? a.D : a.Hk * a.D) * 2, lines = (width + 127) / 128; /* of a token */
    for (int list = 0; list < a.lists; list++) {
        const int spans = min(__ldcg(a.n_likely + list), (int)a.likely_room);
        for (int i = blockIdx.y * gridDim.x + blockIdx.x; i < spans; i += gridDim.x * gridDim.y) {
            const reattn_span *span = a.likely + list * a.likely_room + i;
            const int64_t first = max((int64_t)__ldcg((const long long *)&span->first), (int64_t)0),
                          tokens = min(first + (int64_t)__ldcg((const long long *)&span->count), a.n) - first;
            const int64_t base = first * a.Hk * a.D + list * a.D;
            for (int at = threadIdx.x; at < tokens * lines; at += blockDim.x) {
                const int64_t here = base + at / lines * (a.Hk * a.D) + min(at % lines * 64, width / 2 - 1);
                ask_for(a.k + here);
                ask_for(a.v + here);
            }
        }
    }
#endif
}

template <int D, int KIND, int GT>
__global__ void __launch_bounds__(WARPS_MAX *WARP, 1) few_kernel(const __grid_constant__ batch<attention> all, share sh)
{
    const attention &a = of_session(all);
    typedef shape<D> S;
    extern __shared__ __align__(128) char raw[];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int in_key = lane % S::LANES, key_at = lane / S::LANES;
    const bool works = S::LANES * 16 == D || in_key * 16 < D;
    const int unit_at = warp / sh.parts, part = warp % sh.parts;
    const int unit = blockIdx.y * sh.units + unit_at, hk = unit / sh.groups;
    const int first_head = hk * a.g + unit % sh.groups * GT, heads = min(GT, (hk + 1) * a.g - first_head);
    uint4 *ahead = (uint4 *)raw + warp * STAGES * SLOTS * WARP + lane; /* [STAGES][SLOTS][WARP] */
    float *turned =
        (float *)(raw + sh.units * sh.parts * STAGES * SLOTS * WARP * 16) + unit_at * GT * D; /* [GT][4][D / 16][4] */

    const bool neox = a.neox, aligned = pairs_aligned(a);
    /* A lane's pairs: eight in a row with neox; else two times four, so that lanes read side by side. */
    const int x_at = neox ? pair_first(a, in_key * 8) : in_key * 8;
    const int y_at = neox ? x_at + pair_step(a, in_key * 8) : D / 2 + in_key * 8;
    const int pair_at = (works ? in_key : 0) * (neox ? 8 : 4), pair_next = neox ? 4 : D / 4;
    /* What the warp works on: keys [begin, end) of the scope, or of the last tokens; and where the query sits. */
    bool early = false;
    int begin = 0, end = 0, query_at = 0;
    auto set_out = [&]() {
        int count = early ? a.early : scope_count(a, hk), most = count, blocks = a.splits;
        query_at = (int)query_position(a, count, 0);
        if (early) /* others start when it is nearly over: what selects still has their multiprocessors */
            blocks = max(blocks * 3 / 4, 1);
        else if (a.early) /* where a block begins does not depend on the plan: one answer less to wait for */
            count -= a.early, most = (int)a.most - a.early;
        int per_block = (most + blocks - 1) / blocks, block_begin = (int)blockIdx.x * per_block;
        if (a.cuts) {
            const reattn__cuda_cut cut = a.cuts[(a.lists > 1 ? hk : 0) * a.splits + blockIdx.x];
            per_block = cut.end - cut.begin, block_begin = cut.begin, query_at = (int)cut.q_pos;
        }
        const int per_warp = (per_block + sh.parts - 1) / sh.parts, block_end = min(count, block_begin + per_block);
        begin = block_begin + part * per_warp, end = min(block_end, begin + per_warp);
    };
    const float *const rotation = rotations(a, hk);
    const int pitch = a.Hk * D * 2, y_from_x = (y_at - x_at) * 2; /* bytes */
    const int key_from = (hk * D + (works && aligned ? x_at : 0)) * 2,
              value_from = (hk * D + (works ? in_key * 8 : 0)) * 2;

    /* Rows of 32 keys, a lane each: those that are copied now; and positions of those that are worked on. */
    auto last_token = [&](int first) { return (int)a.n - a.early + min(first + lane, end - 1); };
    auto look_up = [&](int first) {
        const int i = first + lane;
        if (early)
            return a.ring ? last_token(first) % (int)a.ring : last_token(first);
        const int token = i < a.most ? scope_token(a, hk, i) : 0;
        return i < end ? token : 0;
    };
    auto look_up_position = [&](int first) {
        return early ? last_token(first) : first + lane < end ? key_position(a, hk, first + lane) : 0;
    };
    int copied, worked;
    auto copy = [&](int first, int stage) {
        if (first < end) {
            if ((first - begin) % WARP == 0 && first > begin)
                copied = look_up(first);
#pragma unroll
            for (int u = 0; u < KEYS_AHEAD; u++) { /* past the end: some token; its score does not count */
                const int64_t token = __shfl_sync(ALL, copied, (first + u * S::KEYS + key_at - begin) % WARP);
                const char *k = (const char *)a.k + (token * pitch + key_from),
                           *v = (const char *)a.v + (token * pitch + value_from);
                uint4 *to = ahead + (stage * SLOTS + u * 4) * WARP;
                if (aligned) {
                    copy16(address(to), k, works);
                    copy16(address(to + WARP), k + y_from_x, works);
                } else {
                    to[0] = works ? gather16(a, (const uint16_t *)k, in_key * 8, false) : uint4{0, 0, 0, 0};
                    to[WARP] = works ? gather16(a, (const uint16_t *)k, in_key * 8, true) : uint4{0, 0, 0, 0};
                }
                copy16(address(to + 2 * WARP), v, works);
                copy16(address(to + 3 * WARP), v + D, works);
            }
        }
        copies_close();
    };
    /* The unit's queries, in the order in which lanes hold pairs; and rotated, in place. A thread sees its own. */
    auto each_pair = [&](auto fn) {
#pragma unroll 1
        for (int i = part * WARP + lane; i < GT * D / 2; i += sh.parts * WARP) {
            const int h = i / (D / 2), p = i % (D / 2);
            const int chunk =
                neox ? p % 8 / 4 * (D / 16) + p / 8 : p / 4; /* first the lanes' first four, then the others */
            fn(h, p, turned[h * D + chunk * 4 + p % 4], turned[h * D + chunk * 4 + p % 4 + D / 2]);
        }
    };
    auto fetch_queries = [&]() {
        each_pair([&](int h, int p, float &x, float &y) {
            const int from = pair_first(a, p);
            const float *q = a.q + (int64_t)(first_head + h) * D + from;
            x = h < heads ? q[0] * (a.scale * LOG2_E) : 0.0f;
            y = h < heads ? q[pair_step(a, p)] * (a.scale * LOG2_E) : 0.0f;
        });
    };
    auto turn_queries = [&]() {
        const float *cs = rotation + (int64_t)query_at * D;
        each_pair([&](int, int p, float &x, float &y) {
            const float u = x, w = y, c = cs[p], s = cs[D / 2 + p];
            x = u * c - w * s;
            y = u * s + w * c;
        });
    };

    /* The highest score and the weights of a head are kept by the lanes that have its scores. */
    typedef scores<D, GT> C;
    const int key_lane = lane - in_key, first_score = in_key / C::SAME * C::EACH, own_head = first_score / KEYS_AHEAD;
    auto of_head = [&](float x, int h) { return __shfl_sync(ALL, x, key_lane + C::lane_of(h * KEYS_AHEAD)); };
    float o[GT * 16], m = -INFINITY, l = 0;
#pragma unroll
    for (int i = 0; i < GT * 16; i++)
        o[i] = 0;
    const int pad = (STAGES - 1) * S::STEP;
#pragma unroll 1
    for (int round = a.early ? 0 : 1; round < 2; round++) {
        early = round == 0;
        if (!early && a.early && a.likely)
            ask_for_likely(a, rotation, hk);
        if (!early)
            wait_for_previous();
        if (early || !a.early) /* without an early part the kernel before may be the one that writes them */
            fetch_queries();
        set_out();
        copied = look_up(begin);
        worked = a.positions ? look_up_position(begin) : copied;
        int stage = 0, next_stage = 0;
#pragma unroll 1
        for (int first = begin - pad; first < end || first < begin; first += S::STEP) {
            copy(first + pad, next_stage);
            next_stage = next_stage + 1 == STAGES ? 0 : next_stage + 1;
            if (first < begin) {
                if (first + S::STEP >= begin) { /* the copies are on their way */
                    turn_queries();
                    __syncthreads();
                }
                continue;
            }
            copies_wait<STAGES - 1>();
            if ((first - begin) % WARP == 0 && first > begin && a.original)
                worked = look_up_position(first);
            const uint4 *here = ahead + stage * SLOTS * WARP;
            float sum[C::COUNT];
            const float *turn[KEYS_AHEAD];
#pragma unroll
            for (int u = 0; u < KEYS_AHEAD; u++) {
                const int i = min(first + u * S::KEYS + key_at, end - 1);
                const int64_t pos = a.original ? __shfl_sync(ALL, worked, (i - begin) % WARP) : i;
                turn[u] = rotation + pos * D + pair_at;
            }
#pragma unroll
            for (int i = 0; i < C::COUNT; i++)
                sum[i] = 0;
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float p[KEYS_AHEAD][4], r[KEYS_AHEAD][4];
#pragma unroll
                for (int u = 0; u < KEYS_AHEAD; u++) {
                    unpack4<KIND>(here + u * 4 * WARP, c, neox, p[u], r[u]);
                    const float4 cosine = __ldg((const float4 *)(turn[u] + c * pair_next));
                    const float4 sine = __ldg((const float4 *)(turn[u] + D / 2 + c * pair_next));
                    const float co[4] = {cosine.x, cosine.y, cosine.z, cosine.w},
                                si[4] = {sine.x, sine.y, sine.z, sine.w};
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const float x = p[u][i], y = r[u][i];
                        p[u][i] = x * co[i] - y * si[i];
                        r[u][i] = x * si[i] + y * co[i];
                    }
                }
#pragma unroll
                for (int h = 0; h < GT; h++) {
                    const int at = h * D + (c * (D / 16) + (works ? in_key : 0)) * 4;
                    const float4 x = *(const float4 *)(turned + at), y = *(const float4 *)(turned + at + D / 2);
#pragma unroll
                    for (int u = 0; u < KEYS_AHEAD; u++)
                        sum[h * KEYS_AHEAD + u] = add4(add4(sum[h * KEYS_AHEAD + u], p[u], x), r[u], y);
                }
            }
            sum_up<C::COUNT, S::LANES>(sum, in_key);
            float top = m;
#pragma unroll
            for (int i = 0; i < C::EACH; i++) {
                if (first + (first_score + i) % KEYS_AHEAD * S::KEYS + key_at >= end)
                    sum[i] = -INFINITY;
                top = fmaxf(top, sum[i]);
            }
            if (C::EACH < KEYS_AHEAD)
                top = fmaxf(top, __shfl_xor_sync(ALL, top, C::SAME));
            if (__any_sync(ALL, top > m)) {
                const float shrink = top > m ? power_of_2(m - top) : 1.0f;
                l *= shrink;
                m = top;
#pragma unroll
                for (int h = 0; h < GT; h++) {
                    const float f = of_head(shrink, h);
#pragma unroll
                    for (int i = 0; i < 16; i++)
                        o[h * 16 + i] *= f;
                }
            }
#pragma unroll
            for (int i = 0; i < C::EACH; i++) {
                sum[i] = sum[i] == -INFINITY ? 0.0f : power_of_2(sum[i] - m); /* a weight now */
                l += sum[i];
            }
#pragma unroll
            for (int u = 0; u < KEYS_AHEAD; u++) {
                float x[8], y[8];
                unpack<KIND>(here[(u * 4 + 2) * WARP], here[(u * 4 + 3) * WARP], true, x, y);
#pragma unroll
                for (int h = 0; h < GT; h++) {
                    const int score = h * KEYS_AHEAD + u;
                    const float w = __shfl_sync(ALL, sum[score % C::EACH], key_lane + C::lane_of(score));
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        o[h * 16 + i] += w * x[i];
                        o[h * 16 + 8 + i] += w * y[i];
                    }
                }
            }
            stage = stage + 1 == STAGES ? 0 : stage + 1;
        }
        copies_wait<0>();
        __syncthreads(); /* queries are turned anew, or what was copied ahead makes room for states */
        if (early)
            fetch_queries();
    }

    /* Over the groups of lanes, then over the warps of the unit. */
    float top = m;
#pragma unroll 1
    for (int step = S::LANES; step < WARP; step *= 2)
        top = fmaxf(top, __shfl_xor_sync(ALL, top, step));
    const float shrink = m == -INFINITY ? 0.0f : power_of_2(m - top);
    l *= shrink;
    if (C::EACH < KEYS_AHEAD) /* another lane has the head's other keys */
        l += __shfl_xor_sync(ALL, l, C::SAME);
#pragma unroll
    for (int h = 0; h < GT; h++) {
        const float f = of_head(shrink, h);
#pragma unroll
        for (int i = 0; i < 16; i++)
            o[h * 16 + i] *= f;
    }
#pragma unroll 1
    for (int step = S::LANES; step < WARP; step *= 2)
        l += __shfl_xor_sync(ALL, l, step);
    /* Each group of lanes ends with the sums over all groups for its share of the values. */
    const int mine_from = share_out<GT * 16, WARP / 2, S::LANES>(o, lane);
    constexpr int ROW = D + 4;               /* of a state: D sums, highest score, weight */
    constexpr int SHARE = GT * 16 / S::KEYS; /* of a group of lanes */
    float *state = (float *)raw, *mine = state + warp * GT * ROW;
    if (works)
#pragma unroll
        for (int i = 0; i < SHARE; i += SHARE < 4 ? SHARE : 4) {
            const int at = mine_from + i;
            float *to = mine + at / 16 * ROW + at % 16 / 8 * (D / 2) + in_key * 8 + at % 8;
            if constexpr (SHARE >= 4)
                *(float4 *)to = {o[i], o[i + 1], o[i + 2], o[i + 3]};
            else if constexpr (SHARE == 2)
                *(float2 *)to = {o[i], o[i + 1]};
            else
                *to = o[i];
        }
    if (key_at == 0 && in_key == C::lane_of(own_head * KEYS_AHEAD)) {
        mine[own_head * ROW + D] = top;
        mine[own_head * ROW + D + 1] = l;
    }
    __syncthreads();
    const float *of_unit = state + unit_at * sh.parts * GT * ROW;
#pragma unroll 1
    for (int i = part * WARP + lane; i < heads * (D / 4); i += sh.parts * WARP) {
        const int h = i / (D / 4), d = i % (D / 4) * 4;
        float top = -INFINITY, weight = 0;
        float4 sum = {0, 0, 0, 0};
#pragma unroll 1
        for (int w = 0; w < sh.parts; w++)
            top = fmaxf(top, of_unit[(w * GT + h) * ROW + D]);
#pragma unroll 1
        for (int w = 0; w < sh.parts && top > -INFINITY; w++) {
            const float *from = of_unit + (w * GT + h) * ROW;
            const float4 x = *(const float4 *)(from + d);
            const float f = power_of_2(from[D] - top);
            sum.x += f * x.x, sum.y += f * x.y, sum.z += f * x.z, sum.w += f * x.w;
            weight += f * from[D + 1];
        }
        const int64_t row = blockIdx.x * a.rows + first_head + h;
        *(float4 *)(a.o + row * D + d) = sum;
        if (d == 0)
            a.ml[row] = {top, weight};
    }
}

int group_of(const attention &a)
{
    return a.g == 1 ? 1 : a.g == 2 ? 2 : 4;
}

size_t shared_bytes(const attention &a, const share &s)
{
    return (size_t)s.units * (s.parts * STAGES * SLOTS * WARP * 16 + sizeof(float) * group_of(a) * a.D);
}

/* Of a block. */
int shared_most()
{
    int device = 0, most = 0;
    if (cudaGetDevice(&device) == cudaSuccess)
        (void)cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return most;
}

/* Units so that a block has up to eight; as many warps as shared memory has room for. */
share share_of(const attention &a)
{
    const int most = shared_most();
    share s;
    s.groups = (a.g + group_of(a) - 1) / group_of(a);
    const int alike = (a.lists > 1 && !a.alike ? 1 : a.Hk) * s.groups; /* units that a block may hold */
    s.units = 1;
    for (int i = 2; i <= 8; i++)
        if (alike % i == 0)
            s.units = i;
    s.parts = WARPS_MAX / s.units;
    while (s.parts > 1 && shared_bytes(a, s) > (size_t)most)
        s.parts--;
    return s;
}

template <int D, int KIND, int GT> cudaError_t launch(const attention *a, int n, cudaStream_t stream)
{
    const share s = share_of(*a);
    const cudaError_t code = allow_shared<few_kernel<D, KIND, GT>>(shared_most());
    if (code != cudaSuccess)
        return code;
    return launch_batch(few_kernel<D, KIND, GT>, dim3(a->splits, a->Hk * s.groups / s.units), s.units * s.parts * WARP,
                        shared_bytes(*a, s), stream, a, n, s);
}

template <int D, int KIND> cudaError_t launch_group(const attention *a, int n, cudaStream_t stream)
{
    switch (group_of(*a)) {
    case 1:
        return launch<D, KIND, 1>(a, n, stream);
    case 2:
        return launch<D, KIND, 2>(a, n, stream);
    default:
        return launch<D, KIND, 4>(a, n, stream);
    }
}

template <int D> cudaError_t launch_typed(const attention *a, int n, cudaStream_t stream)
{
    return a->type == F16 ? launch_group<D, F16>(a, n, stream) : launch_group<D, BF16>(a, n, stream);
}

} // namespace

namespace reattn_cuda
{

int few_splits(const attention &a, int SMs)
{
    const share s = share_of(a);
    const int blocks = a.Hk * s.groups / s.units * a.among;
    const int free_SMs = SMs - (a.early ? a.lists * a.among : 0);
    return free_SMs / blocks > 1 ? free_SMs / blocks : 1;
}

cudaError_t launch_few(const attention *a, int n, cudaStream_t stream)
{
    return for_head_size(a->D, [&](auto size) { return launch_typed<decltype(size)::value>(a, n, stream); });
}

} // namespace reattn_cuda
