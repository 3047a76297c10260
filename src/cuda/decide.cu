/* decide.cu - before and after a scan: queries are rounded, candidates are scored by the law, rows that the scan could
 * not narrow down are searched by the law alone (brute.cuh). */
#include "brute.cuh"

using namespace reattn_cuda;

namespace
{

constexpr float TOO_LARGE = 1e37f, TOO_SMALL = 1e-30f;
constexpr double UP = 1.0 + 1e-6;

__device__ double warp_sum(double x)
{
    for (int i = WARP / 2; i > 0; i /= 2)
        x += __shfl_xor_sync(ALL, x, i);
    return x;
}
__device__ float warp_max(float x)
{
    for (int i = WARP / 2; i > 0; i /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL, x, i));
    return x;
}

/* ------------------------------------------------------------------------------------------- prepare -------- */

/* Rounds x to the type of the scan, stores it, returns what was stored. */
__device__ float round_to(const search &s, int64_t i, float x)
{
    if (s.kind == I8) {
        float level = fminf(fmaxf(rintf(x), -127.0f), 127.0f);
        ((int8_t *)s.qs)[i] = (int8_t)level;
        return level;
    }
    if (s.kind == F16) {
        __half h = __float2half_rn(x);
        ((__half *)s.qs)[i] = h;
        return __half2float(h);
    }
    __nv_bfloat16 h = __float2bfloat16_rn(x);
    ((__nv_bfloat16 *)s.qs)[i] = h;
    return __bfloat162float(h);
}

__global__ void prepare_kernel(const __grid_constant__ batch<search> all)
{
    const search &s = of_session(all);
    const int lane = threadIdx.x % WARP;
    const int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    wait_for_previous();
    let_next_start();
    if (row >= s.Hk * s.rows)
        return;
    const int hk = (int)(row / s.rows);
    const float norm_max = __uint_as_float(s.norm_max[hk]);
    const float *q = s.q + caller_row(s, hk, row % s.rows) * s.D;
    float amax = 0;
    bool bad = false;
    for (int d = lane; d < s.D; d += WARP) {
        bad |= !isfinite(q[d]);
        amax = fmaxf(amax, fabsf(q[d]));
    }
    amax = warp_max(amax);
    bad = __any_sync(ALL, bad);
    float scale = 1.0f;
    if (s.kind == I8 && amax > TOO_SMALL)
        scale = amax / 127.0f;
    if (s.kind == F16 && amax > TOO_SMALL)
        scale = exp2f((float)ilogbf(amax));
    const float inv = 1.0f / scale;
    double whole = 0, lost = 0;
    for (int d = lane; d < s.D; d += WARP) {
        double x = (double)q[d], y = (double)round_to(s, row * s.D + d, q[d] * inv) * (double)scale;
        whole += x * x;
        lost += (x - y) * (x - y);
    }
    const float norm = (float)(sqrt(warp_sum(whole)) * UP), loss = (float)(sqrt(warp_sum(lost)) * UP);
    for (int i = lane; i < s.samples; i += WARP)
        s.sample[row * s.samples + i] = -INFINITY;
    if (lane > 0)
        return;
    if (row == 0)
        *s.st = status{0, 0, 0};
    row_info info = {bad ? NAN : scale, inv, 0, 0};
    if (s.kind == I8) {
        info.a = norm * (1.0f + 0x1p-17f);
        info.b = loss + norm * 0x1p-17f;
    } else {
        info.a = loss + norm * (float)s.D * 0x1p-20f;
    }
    s.row[row] = info;
    s.next[row] = s.done[row] = 0;
    const bool safe = norm * norm_max <= TOO_LARGE && norm <= TOO_LARGE && !bad && (amax == 0 || amax > TOO_SMALL);
    s.floor[row] = order_of(safe ? -INFINITY : INFINITY); /* above all scores: no candidates, left to the law */
}

enum { THREADS = BRUTE_THREADS, FEW_BLOCKS = 128 };

/* Scores as integers of the same order: comparing those is quick. The law never says -0. */
__device__ __forceinline__ long long rank_of(double x)
{
    const long long i = __double_as_longlong(x);
    return i >= 0 ? i : i ^ 0x7fffffffffffffffll;
}
__device__ __forceinline__ double score_of(long long i)
{
    return __longlong_as_double(i >= 0 ? i : i ^ 0x7fffffffffffffffll);
}

/* ------------------------------------------------------------------------------------------- decide --------- */

union work { /* candidates are forgotten once their keys are known */
    candidate seen;
    long long score[2]; /* rank_of() */
};

/* What decide_kernel keeps of a row: so many candidates, and twice as many of their keys. And for each warp, if keys are
 * far, some of those, each a bit longer than it is, so that lanes read different banks. */
template <int W> struct room {
    static constexpr int CANDIDATES = W == 1 ? 224 : 1280, KEYS = CANDIDATES * 2, GROUPS = THREADS / WARP / W;
    static size_t bytes(size_t query) { return GROUPS * (CANDIDATES * sizeof(work) + KEYS * sizeof(int) + query); }
};
enum { FETCHES = 8 };
__host__ __device__ constexpr int fetched_keys(int D)
{
    return D > 128 ? 8 : 16; /* at a time */
}
__host__ __device__ constexpr int fetched_pitch(int D)
{
    return D / 8 + 1; /* of 16 bytes */
}
/* Keys that a warp scores before the others. */
enum { FIRST = 32 };
struct alignas(16) first_keys {
    long long score[FIRST];
    int pos[FIRST];
};
size_t fetched_bytes(const search &s)
{
    return s.far ? (THREADS / WARP) * (fetched_keys(s.D) * fetched_pitch(s.D) * 16 + sizeof(first_keys)) : 0;
}

/* Scores of keys that are far, for a group of W warps: a warp fetches some whole keys, 16 bytes a lane, many on their
 * way, then each lane scores one. */
template <int W>
__device__ void score_far(const search &s, const double *q, int hk, const int *pos, int n, uint4 *here,
                          long long *score)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP % W, pieces = s.D / 8, pitch = fetched_pitch(s.D);
    const int most = fetched_keys(s.D);
    for (int base = warp * most; base < n; base += W * most) {
        const int m = min(n - base, most), all = m * pieces;
        for (int i = lane; i < all; i += FETCHES * WARP) {
            uint4 x[FETCHES];
#pragma unroll
            for (int j = 0; j < FETCHES; j++) {
                const int p = i + j * WARP;
                if (p < all)
                    x[j] = __ldg(key_at(s, hk, pos[base + p / pieces]) + p % pieces);
            }
#pragma unroll
            for (int j = 0; j < FETCHES; j++) {
                const int p = i + j * WARP;
                if (p < all)
                    here[p / pieces * pitch + p % pieces] = x[j];
            }
        }
        __syncwarp();
        if (lane < m)
            score[base + lane] = rank_of(law_here(s, q, here + lane * pitch, s.D));
        __syncwarp();
    }
}

/* The scan's scores are those of keys less their mean. From the k-th best exact score of a row, something that such a score
 * must reach: sums in float64 are off by less than 1e-12 |q| |k|. */
__device__ float bar_of(const search &s, int hk, int64_t row, int64_t caller, double kth)
{
    const int lane = threadIdx.x % WARP;
    double moved = 0;
    if (s.kind == I8)
        for (int d = lane; d < s.D; d += WARP)
            moved += (double)s.q[caller * s.D + d] * (double)s.mean[hk * s.D + d];
    moved = warp_sum(moved);
    const double slack = 1e-11 * (double)s.row[row].a * (double)__uint_as_float(s.norm_max[hk]);
    return __double2float_rd(kth - moved - slack);
}

/* The k-th best of up to 32 scores, all of which are different keys'; all lanes call. */
__device__ long long kth_best(const long long *score, int n, int k)
{
    const int lane = threadIdx.x % WARP;
    const long long is = lane < n ? score[lane] : 0;
    int place = 0;
    for (int j = 0; j < n; j++)
        place += score[j] > is || (score[j] == is && j < lane);
    return __shfl_sync(ALL, is, __ffs(__ballot_sync(ALL, lane < n && place == k - 1)) - 1);
}

/* Threads of a group wait for each other. */
template <int W> __device__ __forceinline__ void meet()
{
    if (W == 1)
        __syncwarp();
    else
        __syncthreads();
}

/* The keys of a candidate will be wanted soon. */
__device__ __forceinline__ void ask_for_keys(const search &s, int hk, const candidate &c)
{
    const int first = c.at / COLUMNS * TILE + c.at % COLUMNS;
    for (unsigned bits = c.keys; bits; bits &= bits - 1) {
        const int64_t pos = first + (__ffs(bits) - 1) * COLUMNS;
        const char *key = (const char *)key_at(s, hk, pos);
        for (int at = 0; at < s.D * 2; at += 128)
            ask_for(key + at);
    }
}

/* Puts the keys of a candidate to pos [room], of which *n are taken. */
__device__ __forceinline__ void write_keys(const candidate &c, int *n, int *pos, int room)
{
    int at = atomicAdd(n, __popc(c.keys));
    for (unsigned bits = c.keys; bits && at < room; bits &= bits - 1)
        pos[at++] = c.at / COLUMNS * TILE + c.at % COLUMNS + (__ffs(bits) - 1) * COLUMNS;
}

/* That a multiprocessor must have room for. */
constexpr int blocks_at_once(int W, bool far)
{
    return far ? 2 : W == 1 ? 4 : 1;
}

/* A group of W warps takes a row: keeps the candidates that can still win, scores their keys by the law, ranks them.
 * W = 8, a whole block, also does what is left to the law; else such rows are written down for brute_kernel. FAR: keys
 * come over the bus. Many rows ask for many, so that a warp then first scores those that the floor is of: what their scores
 * leave is half of what their bounds did. */
template <int W, bool FAR>
__global__ void __launch_bounds__(THREADS, blocks_at_once(W, FAR))
    decide_kernel(const __grid_constant__ batch<search> all)
{
    const search &s = of_session(all);
    typedef room<W> R;
    constexpr int GROUPS = R::GROUPS, N = WARP * W;
    constexpr int AHEAD = W == 1 ? 3 : 8; /* candidates that a thread asks for before it knows how many there are */
    extern __shared__ work shared[];
    __shared__ int survivors[GROUPS], keys[GROUPS], least[GROUPS], found[GROUPS], too_many[GROUPS];
    __shared__ int tops[GROUPS][W * TOP_MAX];
    const int group = threadIdx.x / N, thread = threadIdx.x % N, lane = threadIdx.x % WARP;
    const int64_t row = (int64_t)blockIdx.x * GROUPS + group;
    const bool mine = row < s.Hk * s.rows;
    work *rooms = shared + group * R::CANDIDATES;
    double *queries = (double *)(shared + GROUPS * R::CANDIDATES);
    const int query = (s.D + LAW_STEP - 1) / LAW_STEP * LAW_STEP;
    double *q = queries + group * query;
    int *pos = (int *)(queries + GROUPS * query) + group * R::KEYS;
    const int hk = mine ? (int)(row / s.rows) : 0;
    const int64_t out = mine ? caller_row(s, hk, row % s.rows) : 0;
    if (thread == 0) {
        survivors[group] = keys[group] = found[group] = too_many[group] = 0;
        least[group] = order_of(-INFINITY);
    }
    if (mine)
        load_query(s, out, q, thread, N);
    if (W > 1) /* a plan begins with what is there, whatever is found here */
        let_next_start();
    wait_for_previous();
    if (W == 1)
        let_next_start();
    meet<W>();
    const int floor_bits = mine ? s.floor[row] : 0;
    const bool scanned = mine && floor_bits != order_of(INFINITY);

    /* The parts of the keys knew only their own k best. What the k best of all surely reach is a better floor: here of
     * the two best that each thread has read. */
    const int per_list = max(1, N / s.lists), first = thread % per_list; /* threads */
    candidate ahead[AHEAD];
    int lo[2] = {INT32_MIN, INT32_MIN}, have = 0, in_first = 0;
    auto hear = [&](const candidate &c) {
        const int x = order_of(c.lo);
        lo[1] = max(lo[1], min(lo[0], x));
        lo[0] = max(lo[0], x);
        have += __popc(c.keys);
    };
    if (scanned)
        for (int l = thread / per_list; l < s.lists; l += N / per_list) {
            const candidate *cand = s.cand + (row * s.lists + l) * s.room;
            const int n = min(s.count[row * s.lists + l], s.room + 1), i0 = first + AHEAD * per_list;
            candidate head[AHEAD];
#pragma unroll
            for (int j = 0; j < AHEAD; j++)
                head[j] = cand[min(first + j * per_list, s.room - 1)];
            if (n > s.room)
                too_many[group] = 1;
#pragma unroll
            for (int j = 0; j < AHEAD; j++)
                if (first + j * per_list < min(n, s.room))
                    hear(head[j]);
            for (int i = i0; i < min(n, s.room); i += per_list)
                hear(cand[i]);
            if (l == thread / per_list) {
                in_first = n;
#pragma unroll
                for (int j = 0; j < AHEAD; j++)
                    ahead[j] = head[j];
            }
        }
    if (have)
        atomicAdd(&found[group], have);
    kth_largest(lo, s.top_k, lane, tops[group] + thread / WARP * s.top_k);
    meet<W>();
    if (thread < WARP) {
        int best[W];
#pragma unroll
        for (int j = 0; j < W; j++)
            best[j] = lane + j * WARP < W * s.top_k ? tops[group][lane + j * WARP] : INT32_MIN;
        const int kth = kth_largest(best, s.top_k, lane, NULL);
        if (lane == 0)
            least[group] = max(kth, floor_bits);
    }
    meet<W>();
    const float floor = of_order(least[group]);
    if (scanned) {
        auto take = [&](const candidate &c) {
            if (c.up < floor)
                return;
            if (!FAR)
                ask_for_keys(s, hk, c);
            const int at = atomicAdd(&survivors[group], 1);
            if (at < R::CANDIDATES)
                rooms[at].seen = c;
        };
        for (int l = thread / per_list; l < s.lists; l += N / per_list) {
            const candidate *cand = s.cand + (row * s.lists + l) * s.room;
            const bool known = l == thread / per_list;
            const int n = min(known ? in_first : s.count[row * s.lists + l], s.room);
            if (known)
#pragma unroll
                for (int j = 0; j < AHEAD; j++)
                    if (first + j * per_list < n)
                        take(ahead[j]);
            for (int i = first + (known ? AHEAD * per_list : 0); i < n; i += per_list)
                take(cand[i]);
        }
    }
    meet<W>();
    const int m = survivors[group];
    bool left = mine && (!scanned || too_many[group] || m > R::CANDIDATES);
    uint4 *const fetched = (uint4 *)((int *)(queries + GROUPS * query) + GROUPS * R::KEYS);
    uint4 *const here = fetched + threadIdx.x / WARP * fetched_keys(s.D) * fetched_pitch(s.D);
    first_keys *const first_of =
        (first_keys *)(fetched + THREADS / WARP * fetched_keys(s.D) * fetched_pitch(s.D)) + threadIdx.x / WARP;
    int n_first = 0;
    float bar = floor;
    if (FAR && W == 1 && mine && !left) {
        for (int i = lane; i < m; i += WARP)
            if (rooms[i].seen.lo >= floor)
                write_keys(rooms[i].seen, &keys[group], first_of->pos, FIRST);
        __syncwarp();
        n_first = keys[group];
        __syncwarp();
        if (lane == 0)
            keys[group] = 0;
        if (n_first < s.top_k || n_first > FIRST)
            n_first = 0;
        if (n_first) {
            score_far<1>(s, q, hk, first_of->pos, n_first, here, first_of->score);
            bar = fmaxf(floor, bar_of(s, hk, row, out, score_of(kth_best(first_of->score, n_first, s.top_k))));
        }
        __syncwarp();
    }
    if (mine && !left)
        for (int i = thread; i < m; i += N) {
            const candidate c = rooms[i].seen;
            if (FAR && n_first && (c.lo >= floor || c.up < bar))
                continue;
            write_keys(c, &keys[group], pos, R::KEYS);
        }
    meet<W>();
    int n = keys[group];
    long long *score = rooms->score;
    left |= mine && n + n_first > R::KEYS;
    if (mine && !left && FAR) {
        score_far<W>(s, q, hk, pos, n, here, score);
        if (lane < n_first) {
            pos[n + lane] = first_of->pos[lane];
            score[n + lane] = first_of->score[lane];
        }
        n += n_first;
        if (thread == 0)
            atomicAdd(s.far, (unsigned long long)n);
    } else if (mine && !left) {
        for (int i = thread; i < n; i += N)
            score[i] = rank_of(law(s, q, hk, pos[i]));
    }
    meet<W>();
    if (mine && thread == 0) {
        atomicAdd(&s.st->candidates, (unsigned long long)found[group]);
        if (isnan(s.row[row].scale))
            s.st->bad = 1;
        if (left)
            s.brute[atomicAdd(&s.st->brute_rows, 1)] = (int)row;
    }
    if (W == 8 && left)
        brute_part(s, row, 0, 1, NULL, shared);
    if (!mine || left)
        return;
    /* A hit's place is the number of those that beat it. */
    reattn_hit *hits = s.hits + out * s.top_k;
    for (int i = thread; i < n; i += N) {
        const long long is = score[i];
        const int at = pos[i];
        int place = 0;
#pragma unroll 4
        for (int j = 0; j < n; j++)
            place += score[j] > is || (score[j] == is && pos[j] < at);
        if (place < s.top_k) {
            hits[place].pos = at;
            hits[place].score = score_of(is);
        }
    }
    for (int i = n + thread; i < s.top_k; i += N) {
        hits[i].pos = -1;
        hits[i].score = -INFINITY;
    }
}

/* So much shared memory that no two blocks fit a multiprocessor: a few that start while others still run would all
 * crowd where it is free first. */
size_t alone_bytes()
{
    int device = 0, all = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&all, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device) != cudaSuccess)
        return 0;
    return (size_t)all / 2 + 1024;
}

template <int W, bool FAR> cudaError_t launch_decide_at(const search *s, int n, size_t query, cudaStream_t stream)
{
    const auto kernel = decide_kernel<W, FAR>;
    size_t shared = room<W>::bytes(query) + fetched_bytes(*s);
    if (W == 8)
        shared = REATTN__MAX(shared, brute_bytes(*s));
    const unsigned blocks = (unsigned)((s->Hk * s->rows + room<W>::GROUPS - 1) / room<W>::GROUPS);
    if (W > 1 && blocks * n <= FEW_BLOCKS)
        shared = REATTN__MAX(shared, alone_bytes());
    cudaError_t code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    return code != cudaSuccess ? code : launch_batch(kernel, blocks, THREADS, shared, stream, s, n);
}

template <int W> cudaError_t launch_decide_by(const search *s, int n, size_t query, cudaStream_t stream)
{
    return s->far ? launch_decide_at<W, true>(s, n, query, stream) : launch_decide_at<W, false>(s, n, query, stream);
}

__global__ void all_brute_kernel(search s)
{
    const int64_t row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    wait_for_previous();
    let_next_start();
    if (row >= s.Hk * s.rows)
        return;
    s.brute[row] = (int)row;
    if (isnan(s.row[row].scale))
        s.st->bad = 1;
    if (row == 0)
        s.st->brute_rows = (int)(s.Hk * s.rows);
}

} // namespace

namespace reattn_cuda
{

int launch_prepare(const search *s, int n, cudaStream_t stream, reattn_error *err)
{
    const unsigned blocks = (unsigned)((s->Hk * s->rows * WARP + 127) / 128);
    return failed(launch_batch(prepare_kernel, blocks, 128, 0, stream, s, n), "rounding the queries", err);
}

int launch_decide(const search *each, int n, cudaStream_t stream, reattn_error *err)
{
    const search &s = *each;
    const int64_t rows = s.Hk * s.rows;
    const size_t query = sizeof(double) * ((s.D + LAW_STEP - 1) / LAW_STEP * LAW_STEP);
    const char *what = "deciding among candidates";
    if (s.lists > 0 && rows < WHOLE_BLOCKS) /* a block a row, which does what is left to the law */
        return failed(launch_decide_by<8>(each, n, query, stream), what, err);
    cudaError_t code = s.lists == 0 /* no scan was made */
                           ? launch_next(all_brute_kernel, (unsigned)((rows + 255) / 256), 256, 0, stream, s)
                           : launch_decide_by<1>(each, n, query, stream);
    if (code == cudaSuccess)
        code = launch_brute(s, stream);
    return failed(code, what, err);
}

} // namespace reattn_cuda
