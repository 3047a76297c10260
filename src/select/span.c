/* span.c - from kept positions to spans. */
#include "base/base.h"
#include "reattn/ops.h"

int reattn_spans(const int64_t *kept, int64_t n_kept, int64_t s, int64_t lo, int64_t hi, reattn_span *spans,
                 int64_t *n_span, reattn_error *err)
{
    int64_t n = 0, last = lo;
    if (n_kept < 0 || s < 1 || lo > hi || !n_span || (n_kept > 0 && (!kept || !spans)))
        return reattn__fail(err, REATTN_E_ARG, "reattn_spans: n_kept %lld, s %lld, range [%lld, %lld)",
                            (long long)n_kept, (long long)s, (long long)lo, (long long)hi);
    for (int64_t i = 0; i < n_kept; i++) {
        if (kept[i] < last || kept[i] >= hi)
            return reattn__fail(err, REATTN_E_ARG,
                                "reattn_spans: position %lld is out of order or outside [%lld, %lld)",
                                (long long)kept[i], (long long)lo, (long long)hi);
        last = kept[i];
        int64_t first = REATTN__MAX(lo, kept[i] - s / 2), end = REATTN__MIN(hi, kept[i] + (s + 1) / 2);
        if (n > 0 && first <= spans[n - 1].first + spans[n - 1].count)
            spans[n - 1].count = REATTN__MAX(spans[n - 1].count, end - spans[n - 1].first);
        else
            spans[n++] = (reattn_span){first, end - first};
    }
    *n_span = n;
    return REATTN_OK;
}
