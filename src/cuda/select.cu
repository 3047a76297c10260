/* select.cu - exact top-k on the device: checks, scratch, which scan. */
#include "scan.cuh"

using namespace reattn_cuda;

namespace
{

enum { MANY_ROWS = 32 };

struct device_info {
    int major, SMs;
};

cudaError_t look_at_device(device_info *info)
{
    int device;
    cudaError_t code = cudaGetDevice(&device);
    if (code == cudaSuccess)
        code = cudaDeviceGetAttribute(&info->major, cudaDevAttrComputeCapabilityMajor, device);
    if (code == cudaSuccess)
        code = cudaDeviceGetAttribute(&info->SMs, cudaDevAttrMultiProcessorCount, device);
    return code;
}

int choose_path(const reattn__cuda_select_args *a, const device_info &info)
{
    if (a->keys.M == 0)
        return REATTN__CUDA_BRUTE;
    if (a->path != REATTN__CUDA_AUTO)
        return a->path;
    return info.major == 9 && a->T * (a->H / a->keys.Hk) > MANY_ROWS ? REATTN__CUDA_WGMMA : REATTN__CUDA_MMA;
}

/* Places all that a search needs, with so many blocks of the device if it is of few queries; returns the bytes of
 * scratch, which are fewer with fewer blocks. */
size_t place(const reattn__cuda_select_args *a, const device_info &info, int blocks, search *s)
{
    const reattn__cuda_keys *k = &a->keys;
    const index_view v = index_at(k->index, k->capacity, k->Hk, k->D, k->plane);
    const int path = choose_path(a, info);
    *s = search{};
    s->k = k->k, s->q = a->q, s->hits = a->hits;
    s->M = k->M, s->stride_key = k->stride_key, s->stride_head = k->stride_head;
    s->H = a->H, s->Hk = k->Hk, s->g = a->H / k->Hk, s->D = k->D, s->top_k = a->top_k, s->type = k->type;
    s->T = a->T, s->rows = a->T * s->g;
    s->kind = a->plane ? (int)I8 : k->type;
    s->tiles = a->plane ? v.narrow : v.wide;
    s->tile_stride = v.tiles;
    s->plane = v.plane;
    s->norm_max = v.norm_max;
    s->mean = v.mean;
    s->keys_bad = v.bad;
    s->far = k->far;
    const int64_t rows = s->Hk * s->rows;
    if (path == REATTN__CUDA_WGMMA) {
        s->lists = 4 * wgmma_splits(s->M, s->rows, s->Hk, s->D, s->kind, info.SMs); /* four lanes see a row */
        s->room = 48 + 8 * s->top_k;
    } else if (path == REATTN__CUDA_MMA) {
        s->lists = mma_warps(s->M, s->rows, s->Hk, blocks);
        s->room = 96 + 8 * s->top_k;
        s->samples = s->lists >= 2 * s->top_k ? REATTN__MIN(s->lists, (int)SAMPLES) : 0;
    }
    char *at = (char *)a->work;
    auto take = [&](size_t bytes) {
        char *here = at;
        at += (bytes + 255) / 256 * 256;
        return here;
    };
    s->st = (status *)take(sizeof(status));
    s->row = (row_info *)take(sizeof(row_info) * rows);
    s->qs = take((size_t)rows * s->D * value_bytes(s->kind));
    s->floor = (int *)take(sizeof(int) * rows);
    s->count = (int *)take(sizeof(int) * rows * s->lists);
    s->brute = (int *)take(sizeof(int) * rows);
    s->done = (int *)take(sizeof(int) * rows);
    s->parts = (reattn_hit *)take(sizeof(reattn_hit) * PARTS * s->top_k);
    s->next = (int *)take(sizeof(int) * rows);
    s->sample = (float *)take(sizeof(float) * rows * s->samples);
    s->cand = (candidate *)take(sizeof(candidate) * rows * s->lists * s->room);
    return (size_t)(at - (char *)a->work);
}

int check(const reattn__cuda_select_args *a, reattn_error *err)
{
    const reattn__cuda_keys *k = &a->keys;
    if (k->D != 64 && k->D != 96 && k->D != 128 && k->D != 256)
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "heads of %d values: the CUDA kernels know 64, 96, 128 and 256",
                            k->D);
    if (k->type != REATTN__CUDA_BF16 && k->type != REATTN__CUDA_F16)
        return reattn__fail(err, REATTN_E_ARG, "keys of type %d: 0 is bfloat16, 1 is f16", k->type);
    if (k->Hk < 1 || a->H < 1 || a->H % k->Hk)
        return reattn__fail(err, REATTN_E_ARG, "%d query heads are no multiple of %d KV heads", a->H, k->Hk);
    if (a->top_k < 1 || a->top_k > TOP_MAX)
        return reattn__fail(err, REATTN_E_ARG, "top_k %d is not in 1 .. %d", a->top_k, TOP_MAX);
    if (a->T < 0 || k->M < 0 || k->M > k->capacity || k->M > INT32_MAX - 2 * TILE || a->T * a->H > INT32_MAX / 2 / WARP)
        return reattn__fail(err, REATTN_E_ARG, "%lld queries, %lld keys, an index for %lld: out of range",
                            (long long)a->T, (long long)k->M, (long long)k->capacity);
    if (k->stride_key % 8 || k->stride_head % 8 || (uintptr_t)k->k % 16)
        return reattn__fail(err, REATTN_E_ARG, "keys must be aligned to 16 bytes: strides %lld and %lld, address %p",
                            (long long)k->stride_key, (long long)k->stride_head, k->k);
    if (a->plane && !k->plane)
        return reattn__fail(err, REATTN_E_ARG, "the index of the keys was made without an 8-bit plane");
    if (a->path < REATTN__CUDA_AUTO || a->path > REATTN__CUDA_BRUTE)
        return reattn__fail(err, REATTN_E_ARG, "path %d is unknown", a->path);
    return REATTN_OK;
}

int set_up(const reattn__cuda_select_args *a, int blocks, search *s, device_info *info, reattn_error *err)
{
    int code = check(a, err);
    if (code)
        return code;
    code = failed(look_at_device(info), "looking at the device", err);
    if (code)
        return code;
    if (choose_path(a, *info) == REATTN__CUDA_WGMMA && info->major != 9)
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "wgmma needs a device of compute capability 9, this one has %d",
                            info->major);
    size_t bytes = place(a, *info, blocks ? blocks : mma_blocks(info->SMs), s);
    if (choose_path(a, *info) == REATTN__CUDA_WGMMA && (int64_t)s->Hk * s->rows * s->lists * s->room > UINT32_MAX)
        return reattn__fail(err, REATTN_E_ARG, "%lld queries are too many for one search: take them in parts",
                            (long long)a->T);
    if (a->work_bytes < bytes)
        return reattn__fail(err, REATTN_E_ARG, "selection needs %zu bytes of scratch, %zu were given", bytes,
                            a->work_bytes);
    return REATTN_OK;
}

} // namespace

extern "C" size_t reattn__cuda_select_bytes(const reattn__cuda_select_args *args)
{
    search s;
    device_info info;
    if (check(args, NULL) || look_at_device(&info) != cudaSuccess)
        return 0;
    return place(args, info, mma_blocks(info.SMs), &s);
}

extern "C" int reattn__cuda_select(const reattn__cuda_select_args *args, void *stream, reattn_error *err)
{
    return reattn__cuda_select_many(args, 1, stream, err);
}

/* The path of few queries, a decide that does what is left to the law, keys on the device. */
static bool can_share(const reattn__cuda_select_args *a)
{
    return (a->path == REATTN__CUDA_AUTO || a->path == REATTN__CUDA_MMA) && a->keys.M > 0 && a->keys.Hk > 0 &&
           a->T > 0 && !a->keys.far && a->T * (a->H / a->keys.Hk) <= FEW_ROWS && a->H * a->T < WHOLE_BLOCKS;
}

extern "C" bool reattn__cuda_select_together(const reattn__cuda_select_args *a, const reattn__cuda_select_args *b)
{
    return can_share(a) && can_share(b) && a->T == b->T && a->H == b->H && a->top_k == b->top_k &&
           a->plane == b->plane && a->keys.Hk == b->keys.Hk && a->keys.D == b->keys.D && a->keys.type == b->keys.type;
}

extern "C" int reattn__cuda_select_many(const reattn__cuda_select_args *args, int n, void *stream, reattn_error *err)
{
    search s[MANY];
    device_info info;
    cudaStream_t on = (cudaStream_t)stream;
    int64_t tiles = 0;
    if (n < 1 || n > MANY)
        return reattn__fail(err, REATTN_E_ARG, "%d searches in one launch: 1 to %d", n, (int)MANY);
    for (int i = 0; i < n; i++) {
        if (n > 1 && !reattn__cuda_select_together(&args[0], &args[i]))
            return reattn__fail(err, REATTN_E_ARG, "searches 0 and %d of %d are not alike", i, n);
        tiles += (args[i].keys.M + TILE - 1) / TILE;
    }
    for (int i = 0; i < n; i++) {
        int blocks = 0; /* all that there are; or the keys' share of them, at least one */
        int code = n > 1 ? failed(look_at_device(&info), "looking at the device", err) : REATTN_OK;
        if (n > 1 && code == REATTN_OK)
            blocks = 1 + (int)((mma_blocks(info.SMs) - n) * ((args[i].keys.M + TILE - 1) / TILE) / tiles);
        if (code == REATTN_OK)
            code = set_up(&args[i], blocks, &s[i], &info, err);
        if (code)
            return code;
    }
    if (s->rows == 0)
        return REATTN_OK;
    int code = launch_prepare(s, n, on, err);
    if (code)
        return code;
    const int path = choose_path(args, info);
    if (path == REATTN__CUDA_MMA)
        code = launch_scan_mma(s, n, on, err);
    if (path == REATTN__CUDA_WGMMA)
        code = launch_scan_wgmma(*s, on, err);
    return code ? code : launch_decide(s, n, on, err);
}

extern "C" int reattn__cuda_select_report(const reattn__cuda_select_args *args, void *stream,
                                          reattn__cuda_report *report, reattn_error *err)
{
    search s;
    device_info info;
    status st;
    int keys_bad = 0;
    cudaStream_t on = (cudaStream_t)stream;
    *report = reattn__cuda_report{};
    int code = set_up(args, 0, &s, &info, err);
    if (code || s.rows == 0)
        return code;
    code = failed(cudaMemcpyAsync(&st, s.st, sizeof st, cudaMemcpyDeviceToHost, on), "reading the status", err);
    if (code)
        return code;
    code = failed(cudaMemcpyAsync(&keys_bad, s.keys_bad, sizeof keys_bad, cudaMemcpyDeviceToHost, on),
                  "reading the status", err);
    if (code)
        return code;
    code = failed(cudaStreamSynchronize(on), "selection", err);
    if (code)
        return code;
    if (st.bad || keys_bad)
        return reattn__fail(err, REATTN_E_NAN, "a %s is not finite", st.bad ? "query" : "key");
    report->candidates = (int64_t)st.candidates;
    report->brute_rows = st.brute_rows;
    return REATTN_OK;
}
