/* cmd_info.c - reattn info: what a model is, how it will be run, and what fits in memory. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

enum { MAX_STORES = 8, MAX_DEVICES = 16, TYPE_NAME = 16 };

/* What one type of the store costs. */
typedef struct store {
    char type[32]; /* of keys and values; "keys/values" where they differ */
    bool chosen;
    uint64_t bytes_per_1000;
    int64_t fits; /* tokens in the memory that is free now; INT64_MAX: they take nothing there */
} store;

typedef struct facts {
    reattn_model_info model;
    reattn_session_params params; /* resolved */
    bool native_only;
    char reason[sizeof((reattn_error *)0)->msg]; /* why, if so */
    uint64_t free_bytes, scratch_bytes, device_bytes_per_1000; /* of layers that attend on a GPU */
    store stores[MAX_STORES];
    int n_stores;
    reattn_device_memory devices[MAX_DEVICES];
    int n_devices;
} facts;

static int64_t fits_device(const reattn_device_memory *d)
{
    return reattn_tokens_that_fit(d->free_bytes, d->fixed_bytes, d->bytes_per_1000);
}

/* Memory that can be had without swapping: what the kernel estimates, else what is unused. */
static uint64_t free_memory(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && !kib && fgets(line, sizeof line, f))
        sscanf(line, "MemAvailable: %llu kB", &kib);
    if (f)
        fclose(f);
    return kib ? kib * 1024 : (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int add_store(const reattn_model *model, const reattn_session_params *params, facts *f)
{
    store *st = &f->stores[f->n_stores++];
    char keys[TYPE_NAME], values[TYPE_NAME];
    reattn_memory memory;
    reattn_error err;
    if (reattn_session_memory(model, params, 1000, &memory, &err))
        return cli_fail_error(&err);
    reattn_option_get(params, "cache-type-k", keys, sizeof keys);
    reattn_option_get(params, "cache-type-v", values, sizeof values);
    snprintf(st->type, sizeof st->type, strcmp(keys, values) ? "%s/%s" : "%s", keys, values);
    st->chosen = params->type_k == f->params.type_k && params->type_v == f->params.type_v;
    st->bytes_per_1000 = memory.bytes_per_1000;
    if (st->chosen)
        f->scratch_bytes = memory.scratch_bytes, f->device_bytes_per_1000 = memory.device_bytes_per_1000;
    st->fits = reattn_tokens_that_fit(f->free_bytes, memory.scratch_bytes, memory.bytes_per_1000);
    return EXIT_DONE;
}

/* One for each type of keys, with values of the same type or, if they have no such type, of their default; and what
 * was chosen, if it is none of these. */
static int gather_stores(const reattn_model *model, facts *f)
{
    const reattn_option *o = reattn_option_table();
    bool chosen = false;
    int rc = EXIT_DONE;
    while (o->name && strcmp(o->name, "cache-type-k"))
        o++;
    for (const char *s = o->choices; s && *s && f->n_stores < MAX_STORES - 1 && !rc; s += *s == '|') {
        char type[TYPE_NAME];
        reattn_session_params p = f->params;
        int len = (int)strcspn(s, "|");
        snprintf(type, sizeof type, "%.*s", len, s);
        s += len;
        if (reattn_option_set(&p, "cache-type-k", type, NULL))
            continue;
        if (reattn_option_set(&p, "cache-type-v", type, NULL))
            p.type_v = reattn_session_params_default().type_v;
        rc = add_store(model, &p, f);
        chosen |= f->stores[f->n_stores - 1].chosen;
    }
    return rc || chosen ? rc : add_store(model, &f->params, f);
}

static int gather_devices(const reattn_model *model, facts *f)
{
    reattn_error err;
    int n = reattn_session_devices(model, &f->params, f->devices, MAX_DEVICES, &err);
    f->n_devices = n > MAX_DEVICES ? MAX_DEVICES : n;
    return n < 0 ? cli_fail_error(&err) : EXIT_DONE;
}

static void print_rope(const reattn_rope *r, int head_dim)
{
    printf("positions    %s, base %g, %d of %d values of a head", r->kind == REATTN_ROPE_NEOX ? "neox" : "normal",
           r->freq_base, r->n_rot, head_dim);
    if (r->ext_factor != 0)
        printf(", YaRN x %g from %d", 1 / r->freq_scale, r->n_ctx_orig);
    else if (r->freq_scale != 1)
        printf(", linear x %g", 1 / r->freq_scale);
    if (r->freq_factors)
        printf(", %d frequency factors", r->n_rot / 2);
    if (r->attn_factor != 1)
        printf(", amplitude %g", r->attn_factor);
    putchar('\n');
}

static void print_text(const facts *f)
{
    const reattn_model_info *m = &f->model;
    const reattn_session_params *p = &f->params;
    char bytes[32], scope[160];
    load_bytes_text(m->file_bytes, bytes, sizeof bytes);
    load_scope_text(p, scope, sizeof scope);
    printf("file         %s\n", m->path);
    printf("model        %s, %.1f million parameters, %s\n", m->desc, (double)m->n_params / 1e6, bytes);
    printf("layers       %d, with %d heads of %d values (%d KV heads)\n", m->n_layer, m->n_head, m->head_dim_k,
           m->n_head_kv);
    printf("trained for  %d tokens\n", m->n_ctx_train);
    printf("template     %s\n", m->chat_template ? "in the model" : "none (use --raw or --chat-template-file)");
    if (f->native_only)
        printf("policies     native only: %s\n", f->reason);
    else
        print_rope(&m->rope, m->head_dim_k);
    printf("policy       %s: %s\n", p->policy, scope);
    printf("steps        chunk %lld, tail %lld, %d threads, CPU level %s\n", (long long)p->chunk, (long long)p->tail,
           p->n_threads, reattn_cpu_level());
    load_bytes_text(f->free_bytes, bytes, sizeof bytes);
    printf("\nstore        per 1000 tokens   tokens that fit in %s\n", bytes);
    for (int i = 0; i < f->n_stores; i++) {
        const store *st = &f->stores[i];
        load_bytes_text(st->bytes_per_1000, bytes, sizeof bytes);
        printf("  %-10s %15s   ", st->type, bytes);
        printf(st->fits == INT64_MAX ? "any" : "%lld", (long long)st->fits);
        puts(st->chosen ? "   (chosen)" : "");
    }
    load_bytes_text(f->scratch_bytes, bytes, sizeof bytes);
    printf("and %s for the buffers of a step\n", bytes);
    for (int i = 0; i < f->n_devices; i++) {
        const reattn_device_memory *d = &f->devices[i];
        char fixed[32], unused[32];
        load_bytes_text(d->bytes_per_1000, bytes, sizeof bytes);
        load_bytes_text(d->fixed_bytes, fixed, sizeof fixed);
        load_bytes_text(d->free_bytes, unused, sizeof unused);
        printf("on GPU %d, for the %d layers that attend there: %s per 1000 tokens%s%s; %lld tokens fit in %s, less what "
               "a step takes\n",
               d->device, d->n_layer, bytes, d->fixed_bytes ? " and " : "", d->fixed_bytes ? fixed : "",
               (long long)fits_device(d), unused);
    }
}

static json_t *json_fits(int64_t tokens)
{
    return tokens == INT64_MAX ? json_null() : json_integer((json_int_t)tokens);
}

static json_t *json_devices(const facts *f)
{
    json_t *devices = json_array();
    for (int i = 0; i < f->n_devices; i++) {
        const reattn_device_memory *d = &f->devices[i];
        json_array_append_new(devices, json_pack("{s:i, s:i, s:I, s:I, s:I, s:o}", "device", d->device, "layers",
                                                 d->n_layer, "free_bytes", (json_int_t)d->free_bytes, "fixed_bytes",
                                                 (json_int_t)d->fixed_bytes, "bytes_per_1000",
                                                 (json_int_t)d->bytes_per_1000, "tokens_that_fit",
                                                 json_fits(fits_device(d))));
    }
    return devices;
}

static int print_json(const facts *f)
{
    const reattn_model_info *m = &f->model;
    const reattn_session_params *p = &f->params;
    json_t *stores = json_array();
    for (int i = 0; i < f->n_stores; i++)
        json_array_append_new(stores, json_pack("{s:s, s:I, s:o, s:b}", "type", f->stores[i].type, "bytes_per_1000",
                                                (json_int_t)f->stores[i].bytes_per_1000, "tokens_that_fit",
                                                json_fits(f->stores[i].fits), "chosen", (int)f->stores[i].chosen));
    json_t *rope = json_null();
    if (!f->native_only)
        rope = json_pack("{s:s, s:i, s:f, s:f, s:f, s:f, s:i, s:b}", "kind",
                         m->rope.kind == REATTN_ROPE_NEOX ? "neox" : "normal", "n_rot", m->rope.n_rot, "freq_base",
                         (double)m->rope.freq_base, "freq_scale", (double)m->rope.freq_scale, "ext_factor",
                         (double)m->rope.ext_factor, "attn_factor", (double)m->rope.attn_factor, "n_ctx_orig",
                         m->rope.n_ctx_orig, "freq_factors", m->rope.freq_factors != NULL);
    json_t *model = json_pack(
        "{s:s, s:s, s:s, s:s?, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:s?}", "path", m->path, "desc",
        m->desc, "arch", m->arch, "chat_template", m->chat_template, "n_layer", m->n_layer, "n_head", m->n_head,
        "n_head_kv", m->n_head_kv, "head_dim_k", m->head_dim_k, "head_dim_v", m->head_dim_v, "n_ctx_train",
        m->n_ctx_train, "n_vocab", m->n_vocab, "n_embd", m->n_embd, "n_params", (json_int_t)m->n_params, "file_bytes",
        (json_int_t)m->file_bytes, "native_only", f->native_only ? f->reason : NULL);
    json_t *object =
        json_pack("{s:o, s:o, s:s, s:{s:I, s:I, s:I, s:I, s:I}, s:I, s:I, s:o, s:I, s:I, s:I, s:s, s:i}", "model",
                  model, "rope", rope, "policy", p->policy, "scope", "keep", (json_int_t)p->keep, "recall_max",
                  (json_int_t)p->recall_max, "recall_span", (json_int_t)p->recall_span, "local", (json_int_t)p->local,
                  "total", (json_int_t)(p->keep + p->recall_max * p->recall_span + p->local), "chunk",
                  (json_int_t)p->chunk, "tail", (json_int_t)p->tail, "stores", stores, "scratch_bytes",
                  (json_int_t)f->scratch_bytes, "free_bytes", (json_int_t)f->free_bytes, "device_bytes_per_1000",
                  (json_int_t)f->device_bytes_per_1000, "cpu_level", reattn_cpu_level(), "threads", p->n_threads);
    if (object && f->n_devices)
        json_object_set_new(object, "devices", json_devices(f));
    int failed = !object || json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || putchar('\n') == EOF;
    json_decref(object);
    return failed ? cli_fail(EXIT_FAILED, "the JSON object could not be written") : EXIT_DONE;
}

/* A model that only libllama can run is described too, with the reason. */
static int load(const options *opt, reattn_model **model, facts *f)
{
    reattn_model_params params = reattn_model_params_default();
    reattn_error err;
    params.n_gpu_layers = (int)opt->gpu_layers;
    params.n_threads = opt->session.n_threads;
    int code = reattn_model_load(opt->model, &params, model, &err);
    if (code == REATTN_E_UNSUPPORTED) {
        f->native_only = true;
        snprintf(f->reason, sizeof f->reason, "%s", err.msg);
        snprintf(f->params.policy, sizeof f->params.policy, "native");
        code = reattn_model_load_native(opt->model, &params, model, &err);
    }
    return code ? cli_fail(EXIT_FAILED, "%s", err.msg) : EXIT_DONE;
}

int cmd_info(const options *opt)
{
    facts f = {.params = opt->session, .free_bytes = free_memory()};
    reattn_model *model = NULL;
    reattn_error err;
    int rc = load(opt, &model, &f);
    if (!rc && reattn_session_params_resolve(&f.params, model, &err))
        rc = cli_fail_error(&err);
    if (!rc)
        rc = gather_stores(model, &f);
    if (!rc)
        rc = gather_devices(model, &f);
    if (!rc) {
        reattn_model_get_info(model, &f.model);
        if (opt->json)
            rc = print_json(&f);
        else
            print_text(&f);
    }
    reattn_model_free(model);
    return rc;
}
