"""Writes tiny GGUF models with random weights, one per architecture, for tests that need a model but no sense.

    python3 tests/tiny_models.py FOLDER

Needs the packages gguf and numpy. The same files every time. Those named refused_* have layers that reattn does not
support; libllama runs them all."""
import os
import sys

import gguf
import numpy as np

N_EMBD, N_HEAD, N_HEAD_KV, N_FF, N_CTX, BASE = 128, 4, 2, 128, 512, 10000.0

CHAT = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
        "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
PAIRS = ("th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de "
         "hi").split()
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def vocabulary():
    """GPT-2's printable names of the 256 bytes, some pairs of letters, the special tokens."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = {b: chr(b) for b in plain}
    for i, b in enumerate(b for b in range(256) if b not in names):
        names[b] = chr(256 + i)
    return [names[b] for b in range(256)] + PAIRS + SPECIAL


def llama3_factors(n_rot, base, factor=8.0, low=1.0, high=4.0, old=64):
    """Llama 3's divisors of the frequencies."""
    wave = 2 * np.pi * base ** (2 * np.arange(n_rot // 2) / n_rot)
    blend = (old / wave - low) / (high - low)
    return np.where(wave < old / high, 1.0, np.where(wave > old / low, factor, 1 / ((1 - blend) / factor + blend)))


def write(folder, name, arch, *, head_dim=32, n_head=N_HEAD, n_head_kv=N_HEAD_KV, n_rot=None, n_layer=3, f16=False,
          tied=False, bias=False, qk_norm=False, fused=False, post_norm=False, factors=None, extra=None):
    rng = np.random.default_rng(sum(name.encode()))
    w = gguf.GGUFWriter(os.path.join(folder, name + ".gguf"), arch)
    n_rot = n_rot or head_dim
    tokens = vocabulary()

    w.add_name("tiny")  # a name with "phi3" in it makes libllama look for that model's tokens
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if f16 else gguf.LlamaFileType.ALL_F32)
    w.add_context_length(N_CTX)
    w.add_embedding_length(N_EMBD)
    w.add_block_count(n_layer)
    w.add_feed_forward_length(N_FF)
    w.add_head_count(n_head)
    w.add_head_count_kv(n_head_kv)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_dimension_count(n_rot)
    w.add_rope_freq_base(BASE)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([f"{p[0]} {p[1]}" for p in PAIRS])
    w.add_bos_token_id(tokens.index("<|endoftext|>"))
    w.add_eos_token_id(tokens.index("<|im_end|>"))
    w.add_chat_template(CHAT)
    if extra:
        extra(w)

    def matrix(key, n_out, n_in, gain=1.0):
        """Keeps the size of what passes through, times gain."""
        x = rng.standard_normal((n_out, n_in)) * gain / np.sqrt(n_in)
        w.add_tensor(key + ".weight", x.astype(np.float16 if f16 else np.float32))

    def vector(key, n, mean, std):
        w.add_tensor(key, (mean + std * rng.standard_normal(n)).astype(np.float32))

    # Gains that make attention choose (scores of std 2) and the logits differ (std 3).
    matrix("token_embd", len(tokens), N_EMBD, gain=3.0)
    vector("output_norm.weight", N_EMBD, 1.0, 0.1)
    if not tied:
        matrix("output", len(tokens), N_EMBD, gain=3.0)
    for key, value in (factors or {}).items():
        w.add_tensor(key + ".weight", np.asarray(value, dtype=np.float32))
    q, kv = n_head * head_dim, n_head_kv * head_dim
    for i in range(n_layer):
        blk = f"blk.{i}."
        vector(blk + "attn_norm.weight", N_EMBD, 1.0, 0.1)
        if fused:
            matrix(blk + "attn_qkv", q + 2 * kv, N_EMBD, gain=1.4)
        else:
            matrix(blk + "attn_q", q, N_EMBD, gain=2.0)
            matrix(blk + "attn_k", kv, N_EMBD)
            matrix(blk + "attn_v", kv, N_EMBD)
        if bias:
            for key, n in (("q", q), ("k", kv), ("v", kv)):
                vector(f"{blk}attn_{key}.bias", n, 0.0, 0.5)
        if qk_norm:
            vector(blk + "attn_q_norm.weight", head_dim, 1.5, 0.2)
            vector(blk + "attn_k_norm.weight", head_dim, 1.0, 0.2)
        matrix(blk + "attn_output", N_EMBD, q)
        vector(blk + "ffn_norm.weight", N_EMBD, 1.0, 0.1)
        if post_norm:
            vector(blk + "post_attention_norm.weight", N_EMBD, 1.0, 0.1)
            vector(blk + "post_ffw_norm.weight", N_EMBD, 1.0, 0.1)
        if arch == "phi3":  # gate and up in one
            matrix(blk + "ffn_up", 2 * N_FF, N_EMBD)
        else:
            matrix(blk + "ffn_gate", N_FF, N_EMBD)
            matrix(blk + "ffn_up", N_FF, N_EMBD)
        matrix(blk + "ffn_down", N_EMBD, N_FF)

    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(name + ".gguf")


def damage(folder, name, token):
    """A copy, not named .gguf, of a model with f32 weights, in which one token's embedding is no number."""
    path = os.path.join(folder, name + ".gguf")
    data = bytearray(open(path, "rb").read())
    at = next(t.data_offset for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight")
    data[at + token * N_EMBD * 4:at + (token + 1) * N_EMBD * 4] = np.full(N_EMBD, np.nan, np.float32).tobytes()
    with open(os.path.join(folder, name + ".damaged"), "wb") as f:
        f.write(data)


def yarn(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(4.0)
    w.add_rope_scaling_orig_ctx_len(N_CTX // 4)


def linear(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    w.add_rope_scaling_factor(4.0)


def longrope(w):
    w.add_rope_scaling_orig_ctx_len(N_CTX)
    w.add_rope_scaling_attn_factors(1.1)


def window(w):
    w.add_sliding_window(64)


def window_and_cap(w):
    window(w)
    w.add_attn_logit_softcapping(50.0)
    w.add_final_logit_softcapping(30.0)


def main(folder):
    os.makedirs(folder, exist_ok=True)
    write(folder, "llama", "llama", factors={"rope_freqs": llama3_factors(32, BASE)})
    write(folder, "mistral", "llama", n_layer=2, f16=True, tied=True)
    write(folder, "llama_yarn", "llama", extra=yarn)
    write(folder, "llama_linear", "llama", n_layer=2, extra=linear)
    write(folder, "qwen2", "qwen2", f16=True, bias=True)
    write(folder, "qwen3", "qwen3", head_dim=64, qk_norm=True)
    write(folder, "phi3", "phi3", n_rot=24, fused=True, extra=longrope, f16=True,
          factors={"rope_factors_short": np.linspace(1.0, 1.5, 12), "rope_factors_long": np.linspace(1.0, 8.0, 12)})
    write(folder, "internlm2", "internlm2", n_layer=2)
    # Heads of a size that kernels for a GPU have.
    write(folder, "wide_llama", "llama", head_dim=64, factors={"rope_freqs": llama3_factors(64, BASE)})
    write(folder, "wide_yarn", "llama", head_dim=128, n_layer=2, extra=yarn)
    write(folder, "wide_qwen2", "qwen2", head_dim=64, n_head=2, n_head_kv=1, n_layer=2, f16=True, bias=True)
    write(folder, "wide_phi3", "phi3", head_dim=64, n_head=2, n_head_kv=1, n_rot=48, n_layer=2, fused=True,
          extra=longrope, f16=True,
          factors={"rope_factors_short": np.linspace(1.0, 1.5, 24), "rope_factors_long": np.linspace(1.0, 8.0, 24)})
    write(folder, "refused_gemma2", "gemma2", n_layer=2, tied=True, post_norm=True, extra=window_and_cap)
    write(folder, "refused_gemma3", "gemma3", n_layer=2, tied=True, post_norm=True, qk_norm=True, extra=window)
    write(folder, "refused_smollm3", "smollm3", n_layer=4)  # its fourth layer has no RoPE
    damage(folder, "wide_llama", token=5)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
