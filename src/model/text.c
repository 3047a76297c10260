/* text.c - tokens and chat templates, through libllama. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* Byte offset of the first byte that is not valid UTF-8, or len. */
static size_t utf8_valid(const unsigned char *s, size_t len)
{
    size_t i = 0;
    while (i < len) {
        unsigned char c = s[i];
        size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
        if (n == 0 || i + n > len) return i;
        for (size_t j = 1; j < n; j++)
            if ((s[i + j] & 0xc0) != 0x80) return i;
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) || (c == 0xf0 && s[i + 1] < 0x90) ||
            (c == 0xf4 && s[i + 1] > 0x8f))
            return i;
        i += n;
    }
    return len;
}

int64_t reattn_tokenize(const reattn_model *m, const char *text, size_t len, bool add_special, bool parse_special,
                        int32_t *tokens, int64_t cap, reattn_error *err)
{
    if (!m || (!text && len > 0) || cap < 0 || (cap > 0 && !tokens))
        return reattn__fail(err, REATTN_E_ARG, "reattn_tokenize: a NULL argument");
    if (len > INT32_MAX) return reattn__fail(err, REATTN_E_ARG, "the text has %zu bytes, more than 2 GiB", len);
    size_t bad = utf8_valid((const unsigned char *)text, len);
    if (bad < len)
        return reattn__fail(err, REATTN_E_ARG, "the text is not UTF-8: byte 0x%02x at offset %zu",
                            (unsigned char)text[bad], bad);
    /* libllama ends the process then. */
    if (add_special && ((llama_vocab_get_add_bos(m->vocab) && llama_vocab_bos(m->vocab) == LLAMA_TOKEN_NULL) ||
                        (llama_vocab_get_add_eos(m->vocab) && llama_vocab_eos(m->vocab) == LLAMA_TOKEN_NULL)))
        return reattn__fail(err, REATTN_E_FORMAT,
                            "%s is damaged: texts are to begin or end with a special token, and there is none",
                            m->path);
    int32_t room = (int32_t)REATTN__MIN(cap, (int64_t)INT32_MAX);
    int32_t n = llama_tokenize(m->vocab, text ? text : "", (int32_t)len, tokens, room, add_special, parse_special);
    if (n == INT32_MIN) return reattn__fail(err, REATTN_E_ARG, "the text has more than 2^31 tokens");
    return n < 0 ? -(int64_t)n : n;
}

int reattn_token_bytes(const reattn_model *m, int32_t token, bool special, char *buf, int cap)
{
    if (token < 0 || token >= llama_vocab_n_tokens(m->vocab)) return 0;
    int n = llama_token_to_piece(m->vocab, token, buf, cap, 0, special);
    return n < 0 ? -n : n;
}

bool reattn_token_is_eog(const reattn_model *m, int32_t token)
{
    return llama_vocab_is_eog(m->vocab, token);
}

int reattn_chat_format(const reattn_model *m, const char *tmpl, const reattn_message *messages, size_t n_messages,
                       bool add_assistant, char **out, reattn_error *err)
{
    if (!tmpl) tmpl = llama_model_chat_template(m->llama, NULL);
    if (!tmpl)
        return reattn__fail(err, REATTN_E_UNSUPPORTED,
                            "the model has no chat template: give one (--chat-template-file) or use --raw");
    struct llama_chat_message *chat = calloc(n_messages ? n_messages : 1, sizeof *chat);
    size_t room = 256;
    for (size_t i = 0; chat && i < n_messages; i++) {
        chat[i] = (struct llama_chat_message){messages[i].role, messages[i].content};
        room += 2 * (strlen(messages[i].role) + strlen(messages[i].content)) + 64;
    }
    char *buf = room < INT32_MAX ? malloc(room + 1) : NULL;
    int code = REATTN_OK;
    if (!chat || !buf) code = reattn__fail(err, REATTN_E_NOMEM, "out of memory for the chat");
    while (code == REATTN_OK) {
        int32_t n = llama_chat_apply_template(tmpl, chat, n_messages, add_assistant, buf, (int32_t)room);
        if (n < 0)
            code = reattn__fail(err, REATTN_E_UNSUPPORTED, "libllama does not know this chat template: use --raw, or "
                                                           "another --chat-template-file");
        else if ((size_t)n <= room) {
            buf[n] = 0;
            break;
        } else {
            char *more = realloc(buf, (size_t)n + 1);
            if (!more) code = reattn__fail(err, REATTN_E_NOMEM, "out of memory for the chat");
            else {
                buf = more;
                room = (size_t)n;
            }
        }
    }
    free(chat);
    if (code == REATTN_OK) *out = buf;
    else free(buf);
    return code;
}
