/* cmd_quantize.c - reattn quantize: a model with its weights stored in another way. */
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "load.h"

static int print_types(void)
{
    for (const reattn_weight_type *t = reattn_weight_type_list(); t->name; t++)
        printf("%-8s %s\n", t->name, t->note);
    return EXIT_DONE;
}

int cmd_quantize(const options *opt)
{
    reattn_quantize_params params = reattn_quantize_params_default();
    reattn_quantized done;
    reattn_error err;
    char bytes[32];
    if (opt->quantize_to && !strcmp(opt->quantize_to, "list"))
        return print_types();
    if (!opt->model || !opt->out || !opt->quantize_to)
        return cli_fail(EXIT_USAGE, "quantize needs %s",
                        !opt->model ? "a model: -m FILE"
                        : !opt->out ? "the new model's name: -o FILE"
                                    : "a type: --type Q4_K_M; --type list names them");
    params.type = opt->quantize_to;
    params.n_threads = (int)opt->threads;
    params.allow_requantize = opt->allow_requantize;
    if (reattn_quantize(opt->model, opt->out, &params, &done, &err))
        return cli_fail_error(&err);
    load_bytes_text(done.file_bytes, bytes, sizeof bytes);
    if (!opt->quiet)
        cli_note("%s: %s, %.2f bits a weight", opt->out, bytes, done.bits_per_weight);
    return EXIT_DONE;
}
