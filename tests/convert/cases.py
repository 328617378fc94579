"""The matrix: family x option."""

from __future__ import annotations

from convert.zoo import LINEAR, LLAMA3, TIED, UNTIED, VOCAB, YARN, Case

_NO_WINDOW = "llama.cpp has no sliding window for this architecture: both compute the same within the window only"
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 64,
    "short_factor": [1.0 + 0.05 * i for i in range(8)],
    "long_factor": [1.5 + 0.5 * i for i in range(8)],
}
_PARTIAL_LONGROPE = {
    **_LONGROPE,
    "partial_rotary_factor": 0.75,
    "short_factor": _LONGROPE["short_factor"][:6],  # type: ignore[index]
    "long_factor": _LONGROPE["long_factor"][:6],  # type: ignore[index]
}
_GRANITE = {
    "attention_multiplier": 0.25,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 2.0,
}
_GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32}
_GEMMA_ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}

_MINISTRAL_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 16.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_DELTA = {
    "num_hidden_layers": 3,
    "head_dim": 32,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
}
_NO_MTP = ("--no-mtp",)
_GEMMA_4 = {
    "num_hidden_layers": 4,
    "head_dim": 16,
    "global_head_dim": 32,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 64,
}

CASES = (
    Case("Llama", "plain", "LlamaForCausalLM"),
    Case("Llama", "tied, F16", "LlamaForCausalLM", TIED, "float16", "f16"),
    Case("Llama", "biases, F32", "LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}, "float32", "f32"),
    Case("Llama", "llama3 RoPE", "LlamaForCausalLM", {"rope_parameters": LLAMA3}, "float32"),
    Case("Llama", "linear RoPE", "LlamaForCausalLM", {"rope_parameters": LINEAR}),
    Case("Llama", "YaRN", "LlamaForCausalLM", {"rope_parameters": YARN}),
    Case("Llama", "wide heads, F32 to F16", "LlamaForCausalLM", {"head_dim": 32}, "float32", "f16"),
    Case("Llama", "one head of keys", "LlamaForCausalLM", {"num_key_value_heads": 1}),
    Case("Mistral", "no window", "MistralForCausalLM", {"sliding_window": None}),
    Case(
        "Mistral",
        "window",
        "MistralForCausalLM",
        {"sliding_window": 128},
        differences={"llama.context_length": (128, 512)},
        why=_NO_WINDOW,
        tokens=128,
    ),
    Case("Mixtral", "experts", "MixtralForCausalLM", {"num_local_experts": 4}),
    Case("Mixtral", "tied, F32 to F16", "MixtralForCausalLM", {"num_local_experts": 3, **TIED}, "float32", "f16"),
    Case("SmolLM3", "tied", "SmolLM3ForCausalLM", {"num_hidden_layers": 5}),
    Case("SmolLM3", "untied, YaRN", "SmolLM3ForCausalLM", {"num_hidden_layers": 4, "rope_parameters": YARN, **UNTIED}),
    Case("Qwen2", "plain", "Qwen2ForCausalLM"),
    Case("Qwen2", "tied, YaRN", "Qwen2ForCausalLM", {**TIED, "rope_parameters": YARN}),
    Case("Qwen2", "heads stated, F16", "Qwen2ForCausalLM", {"head_dim": 16}, "float16", "f16"),
    Case(
        "Qwen2",
        "window",
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 96, "max_window_layers": 1},
        differences={"qwen2.context_length": (96, 512)},
        why=_NO_WINDOW,
        tokens=96,
    ),
    Case("Qwen3", "plain", "Qwen3ForCausalLM", {"head_dim": 32}),
    Case("Qwen3", "tied, YaRN", "Qwen3ForCausalLM", {**TIED, "head_dim": 16, "rope_parameters": YARN}),
    Case(
        "Qwen3-MoE",
        "experts",
        "Qwen3MoeForCausalLM",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": True},
    ),
    Case(
        "Qwen3-MoE",
        "tied, wide heads",
        "Qwen3MoeForCausalLM",
        {
            "num_experts": 5,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 32,
            "norm_topk_prob": True,
            "head_dim": 32,
            **TIED,
        },
    ),
    Case("Gemma 2", "window", "Gemma2ForCausalLM", {**_GEMMA, "sliding_window": 64, "num_hidden_layers": 3}),
    Case("Gemma 2", "F32", "Gemma2ForCausalLM", _GEMMA, "float32", "f32"),
    Case(
        "Gemma 3",
        "window",
        "Gemma3ForCausalLM",
        {**_GEMMA, "sliding_window": 64, "num_hidden_layers": 7, "rope_parameters": _GEMMA_ROPE},
        sentencepiece=True,
    ),
    Case(
        "Gemma 3",
        "linear RoPE, soft cap",
        "Gemma3ForCausalLM",
        {
            **_GEMMA,
            "sliding_window": 64,
            "num_hidden_layers": 6,
            "final_logit_softcapping": 30.0,
            "rope_parameters": {**_GEMMA_ROPE, "full_attention": LINEAR},
        },
        "float32",
        "f16",
        sentencepiece=True,
    ),
    Case("Phi-3", "plain", "Phi3ForCausalLM", differences={}, sentencepiece=True),
    Case(
        "Phi-3",
        "window",
        "Phi3ForCausalLM",
        {"sliding_window": 128},
        differences={"phi3.context_length": (128, 512)},
        why=_NO_WINDOW,
        sentencepiece=True,
        tokens=128,
    ),
    Case("Phi-3", "LongRoPE, long", "Phi3ForCausalLM", {"rope_parameters": _LONGROPE}, sentencepiece=True),
    Case("Phi-3", "LongRoPE, short", "Phi3ForCausalLM", {"rope_parameters": _LONGROPE}, sentencepiece=True, tokens=64),
    Case(
        "Phi-4-mini",
        "tied, partial LongRoPE",
        "Phi3ForCausalLM",
        {"rope_parameters": _PARTIAL_LONGROPE, **TIED},
        "float32",
        "f16",
        sentencepiece=True,
    ),
    Case("Granite", "plain", "GraniteForCausalLM", _GRANITE),
    Case("Granite", "tied, biases", "GraniteForCausalLM", {**_GRANITE, **TIED, "attention_bias": True}),
    Case("LFM2", "tied", "Lfm2ForCausalLM", {"layer_types": ["conv", "full_attention"], "block_multiple_of": 32}),
    Case(
        "LFM2",
        "plain width, F32 to F16",
        "Lfm2ForCausalLM",
        {
            "layer_types": ["conv", "conv", "full_attention"],
            "num_hidden_layers": 3,
            "block_auto_adjust_ff_dim": False,
        },
        "float32",
        "f16",
    ),
    Case("Ministral 3", "plain", "Ministral3ForCausalLM", {"head_dim": 32, "rope_parameters": None}),
    Case(
        "Ministral 3",
        "longer than original, tied",
        "Ministral3ForCausalLM",
        {"head_dim": 16, "rope_parameters": _MINISTRAL_ROPE, **TIED},
        "float32",
        "f16",
    ),
    Case(
        "Ministral 3",
        "with vision",
        "Mistral3ForConditionalGeneration",
        {
            "text_config": {"model_type": "ministral3", "head_dim": 16, "rope_parameters": _MINISTRAL_ROPE},
            "vision_config": {"model_type": "pixtral", **_VISION},
        },
    ),
    Case(
        "Gemma 3",
        "with vision",
        "Gemma3ForConditionalGeneration",
        {
            "text_config": {**_GEMMA, "sliding_window": 64, "num_hidden_layers": 6, "rope_parameters": _GEMMA_ROPE},
            "vision_config": _VISION,
            "mm_tokens_per_image": 4,
        },
        sentencepiece=True,
    ),
    Case(
        "Granite 4",
        "dense",
        "GraniteMoeHybridForCausalLM",
        {
            **_GRANITE,
            "layer_types": ["attention"] * 2,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 96,
            "mamba_n_heads": 8,
            "position_embedding_type": "rope",
        },
        differences={
            "granite.ssm.conv_kernel": (None, 4),
            "granite.ssm.group_count": (None, 1),
            "granite.ssm.inner_size": (None, 128),
            "granite.ssm.state_size": (None, 256),
            "granite.ssm.time_step_rank": (None, 8),
            "granite.expert_count": (None, 0),
            "granite.expert_used_count": (None, 0),
            "granite.expert_shared_feed_forward_length": (None, 96),
            "granite.attention.head_count_kv": (2, [2, 2]),
        },
        why="the model has neither state spaces nor experts, and its layers are alike",
        edits={"layer_types": ["attention"] * 2},
    ),
    Case("Qwen3.5", "as many heads", "Qwen3_5ForCausalLM", {**_DELTA, "linear_num_value_heads": 2}, options=_NO_MTP),
    Case(
        "Qwen3.5", "more value heads, tied", "Qwen3_5ForCausalLM", {**_DELTA, **TIED}, "float32", "f16", options=_NO_MTP
    ),
    Case(
        "Qwen3.5",
        "with vision",
        "Qwen3_5ForConditionalGeneration",
        {
            "text_config": _DELTA,
            "vision_config": {"depth": 1, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 64},
        },
        options=_NO_MTP,
    ),
    Case(
        "Gemma 4",
        "per-layer embeddings",
        "Gemma4ForCausalLM",
        {
            **_GEMMA_4,
            "vocab_size_per_layer_input": VOCAB,
            "hidden_size_per_layer_input": 16,
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
            "final_logit_softcapping": 30.0,
        },
        sentencepiece=True,
    ),
    Case(
        "Gemma 4",
        "keys are values",
        "Gemma4ForCausalLM",
        {**_GEMMA_4, "hidden_size_per_layer_input": 0, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
        "float32",
        "f16",
        differences={"gemma4.final_logit_softcapping": (0.0, None)},
        why="llama.cpp takes 30 where the file is silent, and this model has none",
        sentencepiece=True,
    ),
)
