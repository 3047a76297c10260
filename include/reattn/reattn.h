/* reattn.h - unlimited context for any RoPE model that llama.cpp runs.
 *
 * The mental model: a *model* is a loaded GGUF file, read-only and shareable. A *session* is one growing text on it:
 * its keys and values are kept before RoPE, and each step attends to a finite scope chosen from all of them by a
 * *policy*. You append prompt tokens, ask for logits, sample, append what was sampled.
 *
 *     reattn_model_load -> reattn_session_create -> reattn_session_prompt -> { reattn_sampler_sample
 *                                                                             -> reattn_session_decode } ...
 *
 * Handles are opaque; each *_free accepts NULL. A model may be used by several threads; a session by one at a time
 * (reattn_session_cancel excepted). Error convention: error.h. Operations without a model: ops.h. */
#ifndef REATTN_H
#define REATTN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

#define REATTN_VERSION "0.1.0"

typedef struct reattn_model reattn_model;
typedef struct reattn_session reattn_session;
typedef struct reattn_sampler reattn_sampler;

/* ------------------------------------------------------------------------------------------------ log -------- */

typedef enum reattn_log_level { REATTN_LOG_DEBUG, REATTN_LOG_INFO, REATTN_LOG_WARN, REATTN_LOG_ERROR } reattn_log_level;

/* Receives log lines of reattn and of libllama (text ends with a newline). Called from any thread. */
typedef void (*reattn_log_fn)(reattn_log_level level, const char *text, void *user);

/* Sets the process-wide log callback; NULL (the default) discards. Call before any other function. */
REATTN_API void reattn_log_set(reattn_log_fn fn, void *user);

/* ---------------------------------------------------------------------------------------------- model -------- */

typedef struct reattn_model_params {
    size_t size;      /* sizeof(reattn_model_params), set by the default function */
    int n_gpu_layers; /* layers to put on a GPU, where libllama has one (0 .. 999, default 0) */
    int n_threads;    /* threads for the check at load (0 = all cores) */
} reattn_model_params;

REATTN_API reattn_model_params reattn_model_params_default(void);

/* Loads a GGUF file and checks, on one small decode, that the attention of every layer can be replaced exactly.
 * On success *out is owned by the caller. Errors: E_IO (no such file), E_FORMAT (not a GGUF or cut short), E_MODEL,
 * E_UNSUPPORTED (names the layer and the reason: sliding window, MLA, no RoPE, ...), E_NOMEM.
 * An unsupported model can still be used with the policy "native": load it with reattn_model_load_native. */
REATTN_API int reattn_model_load(const char *path, const reattn_model_params *params, reattn_model **out,
                                 reattn_error *err);
/* The same without the check: only sessions with policy "native" can be created on such a model. */
REATTN_API int reattn_model_load_native(const char *path, const reattn_model_params *params, reattn_model **out,
                                        reattn_error *err);
/* Frees the model. All its sessions and samplers must have been freed. */
REATTN_API void reattn_model_free(reattn_model *model);

/* Shapes and names. Strings live as long as the model. */
typedef struct reattn_model_info {
    const char *path;
    const char *desc;          /* libllama's description, e.g. "llama ?B Q4_1" */
    const char *arch;          /* general.architecture */
    const char *chat_template; /* tokenizer.chat_template, or NULL */
    int n_layer, n_head, n_head_kv; /* of layer 0 */
    int head_dim_k, head_dim_v;
    int n_ctx_train; /* trained length N */
    int n_vocab, n_embd;
    uint64_t n_params, file_bytes;
    reattn_rope rope; /* of layer 0, as the model's graph has it; n_rot 0 on a native-only model */
    float kq_scale;   /* factor on q . k */
} reattn_model_info;

REATTN_API void reattn_model_get_info(const reattn_model *model, reattn_model_info *info);

/* A way to store the weights of a GGUF file. */
typedef struct reattn_weight_type {
    const char *name; /* e.g. "Q4_K_M" */
    const char *note; /* bits a weight, one line */
} reattn_weight_type;
/* Those that reattn_quantize can write, finest first, ended by an entry whose name is NULL. Static. */
REATTN_API const reattn_weight_type *reattn_weight_type_list(void);

typedef struct reattn_quantize_params {
    size_t size;           /* sizeof(reattn_quantize_params), set by the default function */
    const char *type;      /* a name of the list, in upper or lower case; Q4_K is Q4_K_M (default Q4_K_M) */
    int n_threads;         /* 0 = all cores */
    bool allow_requantize; /* weights that are quantised already are quantised again, with a warning (default false) */
} reattn_quantize_params;
REATTN_API reattn_quantize_params reattn_quantize_params_default(void);

typedef struct reattn_quantized {
    uint64_t file_bytes;
    double bits_per_weight; /* of all that was written; above the type's where rows do not fit it */
} reattn_quantized;

/* Writes the model `from` as `to` with its matrices stored as params->type (NULL: the defaults), by libllama's
 * quantiser; matrices whose rows the type cannot hold get a finer one. `to` is replaced only once the new file is
 * whole: it is written as `to`.part, of which nothing is left on failure. *out, unless NULL, says how large it became.
 * Thread-safe for distinct `to`. Errors: E_ARG (an unknown type: the message lists those there are; the same file;
 * quantised already), E_IO (cannot be read or written: a full disk), E_FORMAT, E_NOMEM. */
REATTN_API int reattn_quantize(const char *from, const char *to, const reattn_quantize_params *params,
                               reattn_quantized *out, reattn_error *err);

/* ----------------------------------------------------------------------------------------------- text -------- */

/* Tokens of UTF-8 text. add_special adds BOS/EOS as the model wants them; parse_special reads "<|im_start|>" and the
 * like as tokens. Writes up to cap tokens, returns how many there are (call again with more room if > cap), or a
 * negative error: E_ARG if the text is not valid UTF-8 (the message names the byte offset). */
REATTN_API int64_t reattn_tokenize(const reattn_model *model, const char *text, size_t len, bool add_special,
                                   bool parse_special, int32_t *tokens, int64_t cap, reattn_error *err);
/* Bytes of one token (may be a part of a UTF-8 character). Writes up to cap bytes, no NUL; returns the length.
 * Special tokens give 0 bytes unless `special`. */
REATTN_API int reattn_token_bytes(const reattn_model *model, int32_t token, bool special, char *buf, int cap);
/* True for tokens that end a generation (EOS, end of turn). */
REATTN_API bool reattn_token_is_eog(const reattn_model *model, int32_t token);

typedef struct reattn_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} reattn_message;

/* Formats messages with a chat template: `tmpl`, or the model's own if NULL. add_assistant opens the answer's turn.
 * On success *out is a NUL-terminated string that the caller frees with reattn_free.
 * Errors: E_UNSUPPORTED (libllama does not know the template), E_NOMEM. */
REATTN_API int reattn_chat_format(const reattn_model *model, const char *tmpl, const reattn_message *messages,
                                  size_t n_messages, bool add_assistant, char **out, reattn_error *err);
REATTN_API void reattn_free(void *ptr);

/* -------------------------------------------------------------------------------------------- session -------- */

/* SPLIT is for keys only: 15-bit fixed point in two planes, finer than f16, of which a scan reads one (8 bits). */
typedef enum reattn_dtype { REATTN_F32 = 0, REATTN_F16 = 1, REATTN_Q8_0 = 2, REATTN_SPLIT = 3 } reattn_dtype;
typedef enum reattn_recall_type {
    REATTN_RECALL_QK = 0, /* q . k */
    REATTN_RECALL_K,      /* the new keys against the old keys */
    REATTN_RECALL_V,      /* the new values against the old values */
    REATTN_RECALL_QKV,    /* q . k times the 1-norm of v */
    REATTN_RECALL_QKV2    /* q . k times the 2-norm of v */
} reattn_recall_type;
typedef enum reattn_recall_when { REATTN_WHEN_ALWAYS = 0, REATTN_WHEN_DECODE, REATTN_WHEN_PROMPT } reattn_recall_when;
/* Whose last tokens `local` counts: each query's own, or those of a step as a whole (the paper). */
typedef enum reattn_local_per { REATTN_LOCAL_PER_QUERY = 0, REATTN_LOCAL_PER_STEP } reattn_local_per;
typedef enum reattn_positions { REATTN_POS_REASSIGNED = 0, REATTN_POS_ORIGINAL } reattn_positions;

typedef enum reattn_preset { REATTN_PRESET_DEFAULT = 0, REATTN_PRESET_PAPER } reattn_preset;
/* AUTO: a layer's attention runs on the GPU that the layer lies on, if the engine has it there; CPU: always on the
 * CPU. */
typedef enum reattn_engine { REATTN_ENGINE_AUTO = 0, REATTN_ENGINE_CPU } reattn_engine;
/* AUTO: keys and values are where their layer attends; HOST: of layers that attend on a GPU, too, they are in the
 * host's memory, and what a step needs of them comes over the bus. */
typedef enum reattn_store { REATTN_STORE_AUTO = 0, REATTN_STORE_HOST } reattn_store;
typedef enum reattn_flash { REATTN_FLASH_AUTO = 0, REATTN_FLASH_ON, REATTN_FLASH_OFF } reattn_flash;

/* How a session attends. Bounds and defaults of every field: reattn_option_table. */
typedef struct reattn_session_params {
    size_t size; /* sizeof(reattn_session_params), set by the default function */
    char policy[24];
    int64_t keep;          /* G: first tokens, always in scope; -1 = the policy's own */
    int64_t local;         /* L: last tokens, always in scope; 0 = from the trained length */
    int64_t recall_k;      /* k: keys each query and head votes for */
    int64_t recall_span;   /* s: tokens recalled around each; 0 = the policy's own */
    int64_t recall_max;    /* m: most spans a step; 0 = from the trained length */
    int64_t recall_from;   /* a text of up to so many tokens is attended to whole (reattention); 0 = the scope's size */
    int64_t recall_window; /* in decode, the votes of so many last queries count */
    int64_t tail;          /* W: the last tokens of a prompt are a chunk of their own; 0 = off */
    int64_t chunk;         /* C: tokens a prefill step takes */
    int64_t ctx_train;     /* N: trained length that the method goes by; 0 = the model's */
    int64_t group;         /* tokens that share a position far away (selfextend, mesa); 0 = the method's default */
    int64_t shift;         /* S: distances from S on are shifted down (string); 0 = from the trained length */
    int64_t scale;         /* how much longer than trained a text is (ntk, yarn, ...); 0 = the method's default */
    int64_t pot;           /* M: most tokens held, under a policy that drops keys; 0 = half the trained length */
    int64_t pot_keep;      /* tokens that stay when the pot is full; 0 = half of it */
    int64_t pot_novelty;   /* percent of these that are chosen by novelty, the others by attention */
    int local_per;         /* reattn_local_per (reattention, streaming) */
    int recall_per_head;   /* 0: one set a layer, 1: one a KV head */
    int recall_vote;       /* reattn_vote */
    int recall_type;       /* reattn_recall_type */
    int recall_when;       /* reattn_recall_when */
    int positions;         /* reattn_positions */
    int type_k, type_v;    /* reattn_dtype of the store */
    int64_t ctx_limit;     /* most tokens a session may hold; 0 = no limit */
    int64_t mem_limit;     /* most bytes its keys and values may take, where they are; 0 = no limit */
    int n_threads;         /* 0 = all cores */
    int flash;             /* libllama's own flash attention under the policy native: reattn_flash */
    int engine;            /* reattn_engine */
    int store;             /* reattn_store */
    int preset;            /* reattn_preset; says what was asked for: reattn_option_set changes the fields above */
    char clex[256];        /* GGUF file with the trained numbers of clex; "" = the model's own file */
} reattn_session_params;

/* The one table of session options: names, bounds, help. It feeds the setter, the program's help and its checks. */
typedef enum reattn_option_kind {
    REATTN_OPTION_INT,
    REATTN_OPTION_ENUM,
    REATTN_OPTION_BYTES,
    REATTN_OPTION_NAME,
    REATTN_OPTION_PATH
} reattn_option_kind;
typedef struct reattn_option {
    const char *name;    /* long name without dashes, e.g. "recall-k" */
    const char *alias;   /* short name with its dash, e.g. "-ctk", or NULL */
    const char *arg;     /* name of the argument in help, e.g. "K" */
    reattn_option_kind kind;
    int64_t min, max, def;
    const char *choices; /* for ENUM: "layer|head"; else NULL */
    const char *help;    /* one line */
} reattn_option;

/* The table, ended by an entry whose name is NULL. Static. */
REATTN_API const reattn_option *reattn_option_table(void);
/* Sets one option from text, by long name. Errors: E_ARG (unknown name, not a number, out of bounds: the message has
 * the bounds); params is then unchanged. */
REATTN_API int reattn_option_set(reattn_session_params *params, const char *name, const char *value, reattn_error *err);
/* The option's current value as text. Returns the length, as snprintf does. */
REATTN_API int reattn_option_get(const reattn_session_params *params, const char *name, char *buf, size_t cap);

REATTN_API reattn_session_params reattn_session_params_default(void);
/* Fills in the automatic fields (keep, local, recall_span, recall_max, recall_from, ctx_train, pot, pot_keep,
 * n_threads, and what the policy has defaults for) for a model and checks that the whole is consistent: the largest
 * scope, keep + recall_max * recall_span + local (+ chunk - 1, where each query has its own local part) <= trained
 * length, ... With an automatic local a default chunk or a tail that is larger is made to fit. Errors: E_ARG with both
 * numbers. */
REATTN_API int reattn_session_params_resolve(reattn_session_params *params, const reattn_model *model,
                                             reattn_error *err);

/* One entry of the list of policies, ended by a NULL name. Static. */
typedef struct reattn_policy_info {
    const char *name;
    const char *rule;  /* what it does, one line */
    const char *cost;  /* what it keeps and what a step costs, one line */
    const char *paper; /* where it comes from */
} reattn_policy_info;
REATTN_API const reattn_policy_info *reattn_policy_list(void);
/* True if the policy of that name drops keys for good: a session then cannot be rewound to before it last did so, but
 * for 0, and what it holds of a text is not told by traces. False for an unknown name. */
REATTN_API bool reattn_policy_drops(const char *name);
/* True if sessions of the policy of that name go by the option of that long name; false if it has no effect there, as
 * "recall-k" under "streaming", and for unknown names. Such an option is no error: policies that are compared can all
 * be given the same ones. */
REATTN_API bool reattn_policy_uses(const char *policy, const char *option);

/* Bytes that a session takes, before it takes them; what libllama takes for its graph is not among them. */
typedef struct reattn_memory {
    uint64_t store_bytes;    /* K and V of n_tokens in the host's memory: what mem_limit limits */
    uint64_t policy_bytes;   /* what the policy has of n_tokens beside them, at most: blocks, scores, rotations */
    uint64_t scratch_bytes;  /* buffers of a step, at most, logits included; does not grow with the text */
    uint64_t bytes_per_1000; /* of the first two, per 1000 tokens */
    /* The same on a GPU, of layers that attend there: with REATTN_STORE_HOST what is kept there beside K and V. */
    uint64_t device_bytes, device_bytes_per_1000;
} reattn_memory;
REATTN_API int reattn_session_memory(const reattn_model *model, const reattn_session_params *params, int64_t n_tokens,
                                     reattn_memory *out, reattn_error *err);
/* A GPU on which layers of the model attend. */
typedef struct reattn_device_memory {
    int device;              /* its number */
    int n_layer;             /* layers that attend there */
    uint64_t free_bytes;     /* free now: beside the model, if that is loaded, and all else that is there */
    uint64_t fixed_bytes;    /* a session takes, however long its text; scratch and libllama's graph are not counted */
    uint64_t bytes_per_1000; /* it takes per 1000 tokens */
} reattn_device_memory;
/* One entry for each such GPU under these parameters, by its first layer: writes up to cap, returns how many there are
 * (0 where nothing attends on a GPU), or a negative error: E_ARG, E_NOMEM. */
REATTN_API int reattn_session_devices(const reattn_model *model, const reattn_session_params *params,
                                      reattn_device_memory *out, int cap, reattn_error *err);
/* How many tokens fit in memory of which so much is free, something else is taken first, and each 1000 take so much;
 * INT64_MAX if they take nothing. */
REATTN_API int64_t reattn_tokens_that_fit(uint64_t free_bytes, uint64_t fixed_bytes, uint64_t bytes_per_1000);

/* Creates a session; params NULL = defaults. The model must outlive it. Errors: E_ARG, E_NOMEM, E_UNSUPPORTED. */
REATTN_API int reattn_session_create(reattn_model *model, const reattn_session_params *params, reattn_session **out,
                                     reattn_error *err);
REATTN_API void reattn_session_free(reattn_session *session);

/* Called after each chunk of a prompt; return false to stop (as reattn_session_cancel does). */
typedef bool (*reattn_progress_fn)(int64_t done, int64_t total, void *user);

/* Appends a prompt of n tokens, in chunks that start at multiples of `chunk`; the last `tail` tokens are one of their
 * own. Afterwards the logits of the last token are there. On an error or a cancel, what was appended by whole chunks
 * stays: reattn_session_length says how much, and the call can be repeated with the rest.
 * Errors: E_ARG, E_LIMIT, E_NOMEM, E_CANCELLED, E_NAN, E_MODEL. */
REATTN_API int reattn_session_prompt(reattn_session *session, const int32_t *tokens, int64_t n,
                                     reattn_progress_fn progress, void *user, reattn_error *err);
/* Receives the logits [n_vocab] after the token at a position, which say what the token at the next one may be; valid
 * during the call. Return false to stop. */
typedef bool (*reattn_score_fn)(int64_t position, const float *logits, void *user);
/* Appends a text of n tokens and gives the logits of every one of them, in order: perplexity, or likelihoods of given
 * answers. It is read in chunks that start at multiples of `chunk`, without a tail, so that a text can be given piece
 * by piece, cut at such multiples, with the same result. Costs memory for chunk x n_vocab logits. Otherwise, errors
 * included, as reattn_session_prompt. */
REATTN_API int reattn_session_score(reattn_session *session, const int32_t *tokens, int64_t n, reattn_score_fn fn,
                                    void *user, reattn_error *err);
/* Appends one generated token. Errors as above; on failure the session is what rewinding to its own length makes of it:
 * it holds the tokens that it held, most often without logits, and the call can be repeated. */
REATTN_API int reattn_session_decode(reattn_session *session, int32_t token, reattn_error *err);
/* Appends one generated token to each of n sessions of one model, tokens [n], in one step: the model's weights are
 * read once for all of them. Each session attends to its own text by its own parameters, and afterwards has its own
 * logits, as after reattn_session_decode; they differ from that call's by what the number of rows changes in
 * libllama's matrix products, and not at all by what the other sessions hold. Sessions of the policy native, those
 * whose attention runs on other devices than the first's, and those beyond the first's `chunk` take steps of their
 * own, one after another.
 *
 * A failure is that session's own: it holds the tokens that it held, as after a failed reattn_session_decode, and the
 * others go on as if nothing had been. codes [n], unless NULL, is written: REATTN_OK for each session that took its
 * token, else why it did not. The result is the first of these that is an error, with the session's number in the
 * message; errors as above. E_ARG: a session is there twice, or of another model; nothing is then done, and codes are
 * left alone. In decode_ms each session counts the whole time. None of the sessions may be in use by another thread
 * (reattn_session_cancel excepted, which stops the one session). */
REATTN_API int reattn_session_decode_many(reattn_session *const *sessions, const int32_t *tokens, int n, int *codes,
                                          reattn_error *err);
/* Logits [n_vocab] of the last token, or NULL if there are none (nothing appended yet, or rewound). Valid until the
 * next call on the session. */
REATTN_API const float *reattn_session_logits(const reattn_session *session);

/* Tokens held. */
REATTN_API int64_t reattn_session_length(const reattn_session *session);
/* The tokens themselves, [length], owned by the session. */
REATTN_API const int32_t *reattn_session_tokens(const reattn_session *session);
/* The largest multiple of `chunk` at or below `n` up to which the session holds exactly what a fresh prefill of the
 * same tokens would hold, bit for bit: rewind there to continue with another text. Policies that learn from what they
 * read remember the last two such multiples, others know all. */
REATTN_API int64_t reattn_session_anchor(const reattn_session *session, int64_t n);
/* Forgets all tokens from n on (0 .. length). Errors: E_ARG; under a policy that drops keys E_UNSUPPORTED, if n is not
 * 0 but less than had been read when it last did. The session is unchanged on failure. */
REATTN_API int reattn_session_rewind(reattn_session *session, int64_t n, reattn_error *err);
/* Sets the catalyst of a policy that drops keys: the tokens (copied) whose attention scores what is held whenever the
 * pot is full. By default a general request for a summary; with the question to come, what that asks for is kept. Only
 * while the session is empty. Errors: E_ARG (another policy, not empty, n < 1, more than the pot has room for),
 * E_NOMEM.
 */
REATTN_API int reattn_session_set_catalyst(reattn_session *session, const int32_t *tokens, int64_t n,
                                           reattn_error *err);
/* Asks a running prompt or decode to stop at the next layer. Thread-safe and async-signal-safe. The flag is cleared
 * when the next prompt or decode starts. */
REATTN_API void reattn_session_cancel(reattn_session *session);

/* What a step chose. Called once a layer in which something was recalled, in layer order; where each KV head has its
 * own set, once for each of these. */
typedef struct reattn_trace {
    int64_t token;            /* position of the (last) query */
    int layer, kv_head;       /* kv_head -1: the set serves all heads */
    const reattn_span *spans; /* [n_spans], valid during the call */
    int64_t n_spans;
} reattn_trace;
typedef void (*reattn_trace_fn)(const reattn_trace *trace, void *user);
REATTN_API void reattn_session_set_trace(reattn_session *session, reattn_trace_fn fn, void *user);

/* How much of exact attention a step's scope held. For the last query of the step and each query head: of the softmax
 * over all tokens that the session holds, the share that lies on the keys in scope. A scope of everything gives 1. (Of
 * what a policy dropped for good nothing is known: it counts nowhere.)
 *   free     softmax of kq_scale * q . k, neither rotated: it means something at any length, and is what selection
 *            ranks by under the policies that select without positions
 *   rotated  softmax of the model's own scores, q and k rotated at the positions that they have in the text; NULL
 *            beyond the trained length, where these mean nothing, and once keys were dropped */
typedef struct reattn_mass {
    int64_t token; /* position of the query */
    int layer, n_head;
    const double *free, *rotated; /* [n_head], valid during the call */
} reattn_mass;
typedef void (*reattn_mass_fn)(const reattn_mass *mass, void *user);
/* From now on fn is called once a layer, in layer order, in each step that gives logits (the last chunk of a prompt,
 * every generated token, every chunk of a score); NULL: no longer. Each such step then takes time for a pass over all
 * keys, in float64. fn is never called under the policy native, whose attention is libllama's; of layers that attend on
 * a GPU nothing is measured: the step fails with E_UNSUPPORTED (set engine). Not to be called during a step. */
REATTN_API void reattn_session_set_mass(reattn_session *session, reattn_mass_fn fn, void *user);

/* Counters since the session was created or reattn_session_reset_stats. Milliseconds of wall time. */
typedef struct reattn_stats {
    int64_t prompt_tokens, decode_tokens;
    double prompt_ms, decode_ms; /* whole steps */
    double select_ms, attend_ms; /* of these: choosing, attending */
    double append_ms;            /* of these: storing */
    double device_ms;            /* of these: all three, of layers that attend on a GPU */
    int64_t scope_max;           /* largest number of keys that a query attended to; of layers that attend on a GPU
                                    the last chunk of a prompt and the last step are looked at */
    int64_t keys_scored;         /* (query, head, key) scores asked for */
    int64_t keys_rescored;       /* of these, computed in full precision */
    int64_t distillations;       /* times that a full pot was emptied to what stays */
    uint64_t store_bytes;        /* taken now */
} reattn_stats;
REATTN_API void reattn_session_get_stats(const reattn_session *session, reattn_stats *stats);
REATTN_API void reattn_session_reset_stats(reattn_session *session);
/* The resolved parameters. */
REATTN_API const reattn_session_params *reattn_session_get_params(const reattn_session *session);

/* ------------------------------------------------------------------------------------------- sampling -------- */

typedef struct reattn_sampler_params {
    size_t size;
    uint32_t seed;        /* default 0xFFFFFFFF = random */
    float temp;           /* 0 = greedy, default 0.8 */
    int32_t top_k;        /* default 40, <= 0 off */
    float top_p;          /* default 0.95 */
    float min_p;          /* default 0.05 */
    float repeat_penalty; /* default 1.0 = off */
    int32_t repeat_last_n; /* default 64 */
    const char *grammar;  /* GBNF text or NULL; copied */
} reattn_sampler_params;

REATTN_API reattn_sampler_params reattn_sampler_params_default(void);
/* Errors: E_ARG (a grammar that does not parse), E_NOMEM. */
REATTN_API int reattn_sampler_create(const reattn_model *model, const reattn_sampler_params *params,
                                     reattn_sampler **out, reattn_error *err);
REATTN_API void reattn_sampler_free(reattn_sampler *sampler);
/* Chooses a token from the session's logits and records it (penalties, grammar). Errors: E_ARG (no logits). On success
 * *token is set. */
REATTN_API int reattn_sampler_sample(reattn_sampler *sampler, const reattn_session *session, int32_t *token,
                                     reattn_error *err);

#ifdef __cplusplus
}
#endif
#endif
