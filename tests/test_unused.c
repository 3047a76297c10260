/* test_unused.c - which options a policy goes by: what it says of that (reattn_policy_uses) against what it does. One
 * that has no effect is never refused and changes no plan, nor any option that is used; one that is used does, for some
 * value. */
#include "test_world.h"

#include "clex_file.h"

enum { H = 4, HK = 2, D = 8, N = 64, CHUNK = 8, PROMPT = 12 * CHUNK, DECODE = 12, MOST = 1 << 16 };

/* Two files with numbers for clex. */
static const char *const clex_files[] = {"unused-a.gguf", "unused-b.gguf"};

/* What a session did, as numbers. */
typedef struct record {
    reattn_session_params params; /* resolved */
    bool refused;
    int64_t x[MOST];
    int n;
} record;

static void note(record *r, const void *x, size_t size)
{
    for (const unsigned char *c = x; size; size -= REATTN__MIN(size, sizeof *r->x), c += sizeof *r->x) {
        int64_t word = 0;
        assert_true(r->n < MOST);
        memcpy(&word, c, REATTN__MIN(size, sizeof word));
        r->x[r->n++] = word;
    }
}

static void note_int(record *r, int64_t x) { note(r, &x, sizeof x); }

static void note_plan(record *r, const world *w, int64_t T)
{
    note_int(r, w->plan.n_list);
    note_int(r, w->plan.mass_run);
    if (w->plan.q_scale) note(r, w->plan.q_scale, (size_t)T * sizeof(float));
    for (int i = 0; i < w->plan.n_list; i++) {
        const reattn__run_list *list = &w->plan.lists[i];
        note_int(r, list->n);
        for (int64_t j = 0; j < list->n; j++) { /* field by field: padding says nothing */
            const reattn_run *u = &list->runs[j];
            const int64_t of[] = {u->first, u->count, u->k_pos, u->k_step, u->k_div, u->q_pos, u->q_step, u->q_div,
                                  u->dist_min, u->dist_max, u->t_min, u->t_end};
            note(r, of, sizeof of);
        }
        if (!list->rope) continue;
        const reattn_rope *rope = &list->rope->rope;
        note(r, &rope->freq_base, sizeof rope->freq_base);
        note(r, &rope->freq_scale, sizeof rope->freq_scale);
        note(r, &rope->ext_factor, sizeof rope->ext_factor);
        if (rope->freq_factors) note(r, rope->freq_factors, (size_t)rope->n_rot / 2 * sizeof(float));
    }
}

/* A policy that learns is told something, and one with a budget is asked what would stay. */
static void note_state(record *r, world *w, test_rng *rng, int64_t T, bool decode)
{
    const reattn__layer *l = &w->layer;
    reattn_error err = {0};
    float rows[CHUNK], *mass = NULL;
    if (w->policy->novelty) {
        test_fill_normal(rng, rows, T, 1);
        w->policy->novelty(w->state, w->n - T, T, rows);
    }
    if (w->policy->learn && w->plan.mass_run >= 0) {
        int64_t keys = w->plan.lists[0].runs[w->plan.mass_run].count;
        mass = test_floats(keys * l->H);
        for (int64_t i = 0; i < keys * l->H; i++) mass[i] = (float)test_unit(rng);
        reattn__step step = {.params = &w->params, .shape = l, .store = w->store, .layer = WORLD_LAYER,
                             .decode = decode, .T = T, .n = w->n};
        assert_int_equal(w->policy->learn(w->state, &step, mass, &err), 0);
        free(mass);
    }
    if (!w->policy->budget || w->n >= w->params.pot || w->n <= w->params.pot_keep) return;
    int64_t *kept = malloc((size_t)(HK * w->params.pot_keep) * sizeof *kept);
    assert_non_null(kept);
    assert_int_equal(w->policy->choose(w->state, WORLD_LAYER, w->n, w->params.pot_keep, kept, &err), 0);
    note(r, kept, (size_t)(HK * w->params.pot_keep) * sizeof *kept);
    free(kept);
}

/* Options that make every rule show in a short text. */
static void open_policy(world *w, const char *policy)
{
    world_open(w, policy, REATTN_F16, H, HK, D, PROMPT + DECODE);
    reattn_session_params *p = &w->params;
    p->chunk = CHUNK;
    p->tail = 4;
    p->n_threads = 1;
    p->recall_window = 4;
    if (reattn_policy_uses(policy, "keep")) p->keep = 4;
    if (reattn_policy_uses(policy, "local")) p->local = CHUNK;
    if (reattn_policy_uses(policy, "recall-max")) p->recall_max = 2;
    if (reattn_policy_uses(policy, "recall-span")) p->recall_span = 4;
    if (reattn_policy_uses(policy, "pot")) p->pot = 40, p->pot_keep = 10;
    snprintf(p->clex, sizeof p->clex, "%s", clex_files[0]);
}

/* A text under a policy's options, but for one of them (NULL: none). */
static void run(record *r, const char *policy, const char *option, const char *value)
{
    world w;
    reattn_error err = {0};
    test_rng rng = {7};
    open_policy(&w, policy);
    if (option && reattn_option_set(&w.params, option, value, &err)) fail_msg("%s", err.msg);
    r->n = 0;
    r->refused = reattn__params_resolve(&w.params, N, &err) != REATTN_OK;
    r->params = w.params;
    if (!r->refused && !w.policy->native) {
        const int64_t end = w.policy->budget ? REATTN__MIN(w.params.pot - 1, PROMPT) : PROMPT + DECODE;
        if (w.policy->create)
            assert_int_equal(w.policy->create(&w.params, w.layers, WORLD_LAYERS, &w.state, &err), 0);
        while (w.n < end) {
            const bool decode = w.n >= PROMPT;
            const int64_t T = decode ? 1 : REATTN__MIN(CHUNK, end - w.n);
            w.last = w.n + T == PROMPT;
            world_step(&w, &rng, T, decode);
            note_plan(r, &w, T);
            note_state(r, &w, &rng, T, decode);
        }
    }
    world_close(&w);
}

/* Whether an option made a difference; *why says which. */
static bool differs(const record *a, const record *b, const char *policy, const char *option, const char **why)
{
    if (a->refused != b->refused) *why = "it is refused";
    else if (a->n != b->n || memcmp(a->x, b->x, (size_t)a->n * sizeof *a->x)) *why = "plans";
    else *why = NULL;
    for (const reattn_option *o = reattn_option_table(); o->name && !*why; o++) {
        char x[300], y[300];
        if (!strcmp(o->name, option) || !reattn_policy_uses(policy, o->name)) continue;
        reattn_option_get(&a->params, o->name, x, sizeof x);
        reattn_option_get(&b->params, o->name, y, sizeof y);
        if (strcmp(x, y)) *why = o->name;
    }
    return *why;
}

/* Values of an option to try: all of a choice, some of a number. False when there are no more. */
static bool value_of(const reattn_option *o, int i, char text[64])
{
    static const int64_t numbers[] = {1, 2, 3, 5, 7, 12, 20, 50, 100, 1000};
    const char *choice = o->choices;
    if (o->kind == REATTN_OPTION_PATH) {
        if (i > 1) return false;
        snprintf(text, 64, "%s", clex_files[i]);
        return true;
    }
    if (o->kind == REATTN_OPTION_ENUM) {
        for (int c = 0; c < i && choice; c++) choice = strchr(choice, '|') ? strchr(choice, '|') + 1 : NULL;
        if (choice) snprintf(text, 64, "%.*s", (int)strcspn(choice, "|"), choice);
        return choice != NULL;
    }
    if (i >= (int)(sizeof numbers / sizeof *numbers)) return false;
    snprintf(text, 64, "%lld", (long long)REATTN__MIN(numbers[i], o->max));
    return true;
}

/* What shows in a session, not in a plan. */
static bool elsewhere(const char *name)
{
    static const char *const names[] = {"policy",   "preset",  "tail",         "chunk",        "ctx-train",
                                        "ctx-size", "threads", "cache-type-k", "cache-type-v", "mem-limit",
                                        "engine",   "store",   "flash-attn"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], name)) return true;
    return false;
}

static void every_option_of_every_policy(void **unused)
{
    (void)unused;
    record *plain = malloc(sizeof *plain), *other = malloc(sizeof *other);
    assert_non_null(plain);
    assert_non_null(other);
    for (const reattn_policy_info *p = reattn_policy_list(); p->name; p++) {
        run(plain, p->name, NULL, NULL);
        assert_false(plain->refused);
        for (const reattn_option *o = reattn_option_table(); o->name; o++) {
            const bool used = reattn_policy_uses(p->name, o->name);
            bool shows = false;
            char value[64];
            for (int i = 0; !elsewhere(o->name) && value_of(o, i, value); i++) {
                const char *why;
                run(other, p->name, o->name, value);
                shows |= differs(plain, other, p->name, o->name, &why);
                if (why && !used) fail_msg("%s: --%s %s has no effect, and changes: %s", p->name, o->name, value, why);
            }
            if (used && !shows && !elsewhere(o->name))
                fail_msg("%s: no value of --%s changes a thing", p->name, o->name);
        }
    }
    free(plain);
    free(other);
}

/* Every name that a policy lists is an option's; what all go by is not listed again; unknown names are none. */
static void names(void **unused)
{
    (void)unused;
    for (const reattn_policy_info *info = reattn_policy_list(); info->name; info++) {
        const reattn__policy *p = reattn__policy_find(info->name);
        char list[300], *rest = list;
        snprintf(list, sizeof list, "%s", p->options ? p->options : "");
        for (char *word = strtok_r(list, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
            reattn_session_params params = reattn_session_params_default();
            char text[300];
            if (reattn_option_get(&params, word, text, sizeof text) == 0 && strcmp(word, "clex"))
                fail_msg("%s: there is no option %s", info->name, word);
            assert_true(reattn_policy_uses(info->name, word));
            assert_true(!elsewhere(word) || !strcmp(word, "flash-attn"));
        }
        assert_true(reattn_policy_uses(info->name, "tail"));
        assert_int_equal(reattn_policy_uses(info->name, "mem-limit"), !p->native);
        assert_false(reattn_policy_uses(info->name, "nothing"));
        assert_false(reattn_policy_uses(info->name, "recall"));
    }
    assert_false(reattn_policy_uses("nothing", "tail"));
    assert_false(reattn_policy_uses(NULL, "tail"));
    assert_false(reattn_policy_uses("full", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_option_of_every_policy), cmocka_unit_test(names)};
    for (int i = 0; i < 2; i++) {
        float up[16], down[16];
        test_rng rng = {(uint64_t)i};
        test_fill_normal(&rng, up, 16, 0.1f);
        test_fill_normal(&rng, down, 16, 0.1f);
        clex_write(clex_files[i], up, 16, down, 16, "silu", 4, 1);
    }
    int failed = cmocka_run_group_tests_name("unused options", tests, NULL, NULL);
    remove(clex_files[0]);
    remove(clex_files[1]);
    return failed;
}
