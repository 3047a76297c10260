/* eval.h - what the tasks of `reattn eval` share: configurations, the model, progress, results. */
#ifndef EVAL_H
#define EVAL_H

#include <jansson.h>

#include "args.h"
#include "haystack.h"
#include "numbers.h"
#include "progress.h"
#include "results.h"
#include "server.h"
#include "text.h"

/* One way to run the model; every case is run by each. */
typedef struct config {
    char name[64];
    options opt;     /* the command's options with this configuration's session options */
    json_t *options; /* name -> value of all session options but the threads, resolved */
} config;

typedef struct eval {
    const options *opt;
    const char *task;
    reattn_model *model; /* the one at hand; NULL with a server */
    int model_at;        /* its number, of opt->models if the task takes several */
    server *server;      /* of --url, or NULL */
    config *configs;     /* [n_configs] */
    int n_configs;
    text template; /* of --chat-template-file */
    results *results;
    progress bar;
    int64_t done, total; /* tokens to be read, of all cases that are not there yet */
    int cases_left;
    bool tolerant; /* what the engine refuses is a result, and not the end */
    char refused[504];
} eval;

/* Returned, with nothing printed, where the engine refused something and `refused` says why. */
enum { EVAL_REFUSED = 100 };
/* The engine's error: the end, or if the run is tolerant EVAL_REFUSED. */
int eval_refuse(eval *e, const config *c, const reattn_error *err);

/* Reads the configurations and loads the (first) model. */
int eval_start(eval *e, const options *opt, const char *task);
/* Goes on to the next model; *more is false if there is none. */
int eval_next_model(eval *e, bool *more);
void eval_end(eval *e);

/* The settings that every task has; the task adds its own. Where a task takes several models, it is the cases that have
 * them. */
json_t *eval_settings(const eval *e);
/* The members that every case has. */
json_t *eval_case(const eval *e, const config *c, const char *id);
/* The id of a case: task, model where there may be several, configuration, and the task's own name for it. */
void eval_id(const eval *e, const config *c, const char *name, char *buf, size_t cap);
/* The case is there already. An error if it is there with other options or of another model of that name. */
int eval_has(const eval *e, const config *c, const char *id, bool *has);
/* Opens --out (or keeps results in memory); takes over the settings. */
int eval_open_results(eval *e, json_t *settings);
/* True in *has if the case is there; if not, it is counted with the tokens that it will read. */
int eval_plan(eval *e, const config *c, const char *id, int64_t tokens);
/* Starts the clock after all cases (of a model) were planned. */
void eval_run(eval *e);
/* Ctrl-C: says how far it came and returns EXIT_INTERRUPTED. */
int eval_interrupted(const eval *e);

/* Of --haystack and --seeds, which several tasks have. */
int eval_read_haystacks(const options *opt, haystack **out, int *n);
void eval_free_haystacks(haystack *list, int n);
int eval_read_seeds(const options *opt, numbers *out);

/* Tokens that were read, of all that are to be read: a reattn_progress_fn with the eval as its user pointer. */
bool eval_progress(int64_t done, int64_t total, void *user);

/* Replaces {name} by value in a template: pairs of name and value, ended by NULL. False if there is no memory. */
bool eval_fill(text *out, const char *template, ...);
/* What is sent for a text: itself, or with --chat, unless `plain`, the chat template around it; then what the answer
 * begins with, which may be NULL. */
int eval_wrap(const eval *e, const char *body, const char *lead, bool plain, text *out);
/* Tokens of what is sent. */
int eval_count(const eval *e, const char *sent, size_t n, int64_t *count);

int eval_niah(const options *opt);
int eval_recall(const options *opt);
int eval_ppl(const options *opt);
int eval_passkey(const options *opt);
int eval_ruler(const options *opt);
int eval_infinitebench(const options *opt);
int eval_longbench(const options *opt);
int eval_leval(const options *opt);
int eval_plot(const options *opt);
int eval_sources(const options *opt);
int eval_compare(const options *opt);

#endif
