/* masses.c - see masses.h. */
#include "masses.h"

#include <math.h>
#include <stdlib.h>

struct masses {
    reattn_session *session;
    int64_t token;           /* of the step at hand; -1: none */
    json_t *heads, *rotated; /* [n_layer][n_head] */
    bool no_memory;
};

/* Six digits are more than these numbers mean. */
static json_t *rounded(double share)
{
    return json_real(round(share * 1e6) / 1e6);
}

static json_t *row_of(const double *shares, int n)
{
    json_t *row = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(row, rounded(shares[i]));
    return row;
}

static void on_mass(const reattn_mass *mass, void *user)
{
    masses *m = user;
    if (mass->token != m->token || mass->layer == 0) {
        json_array_clear(m->heads);
        json_array_clear(m->rotated);
        m->token = mass->token;
    }
    m->no_memory |= json_array_append_new(m->heads, row_of(mass->free, mass->n_head)) != 0;
    if (mass->rotated)
        m->no_memory |= json_array_append_new(m->rotated, row_of(mass->rotated, mass->n_head)) != 0;
}

int masses_open(reattn_session *session, masses **out)
{
    masses *m = calloc(1, sizeof *m);
    if (!m)
        return cli_fail(EXIT_FAILED, "out of memory");
    *m = (masses){session, -1, json_array(), json_array(), false};
    *out = m;
    return EXIT_DONE;
}

void masses_measure(masses *m, bool on)
{
    reattn_session_set_mass(m->session, on ? on_mass : NULL, m);
    m->token = on ? -1 : m->token;
}

void masses_close(masses *m)
{
    if (!m)
        return;
    reattn_session_set_mass(m->session, NULL, NULL);
    json_decref(m->heads);
    json_decref(m->rotated);
    free(m);
}

/* Mean of each row into `layers`; returns the mean of all. */
static double mean_of(const json_t *heads, json_t *layers)
{
    double all = 0;
    size_t n = json_array_size(heads);
    for (size_t l = 0; l < n; l++) {
        const json_t *row = json_array_get(heads, l);
        double sum = 0;
        for (size_t h = 0; h < json_array_size(row); h++)
            sum += json_number_value(json_array_get(row, h));
        sum /= (double)json_array_size(row);
        json_array_append_new(layers, rounded(sum));
        all += sum / (double)n;
    }
    return all;
}

json_t *masses_json(const masses *m)
{
    json_t *out = json_object(), *layers = json_array(), *unused = json_array();
    bool measured = m->token >= 0 && m->token == reattn_session_length(m->session) - 1;
    if (measured && json_array_size(m->heads)) {
        json_object_set_new(out, "mass_share", rounded(mean_of(m->heads, layers)));
        json_object_set(out, "mass_layers", layers);
        json_object_set_new(out, "mass_heads", json_deep_copy(m->heads));
    }
    if (measured && json_array_size(m->rotated)) {
        json_object_set_new(out, "rotated_share", rounded(mean_of(m->rotated, unused)));
        json_object_set_new(out, "rotated_heads", json_deep_copy(m->rotated));
    }
    json_decref(layers);
    json_decref(unused);
    if (out && !m->no_memory)
        return out;
    json_decref(out);
    cli_fail(EXIT_FAILED, "out of memory");
    return NULL;
}
