"""Random models of the true shape of published bases, made on the device from configs written here: for speed only."""

# Figures of each base's config.json on the Hub, text part; `tiny` has Gemma 3's two kinds of attention, toy-sized.
SHAPES = {
    "gemma-3-12b": {
        "model_type": "gemma3_text",
        "vocab_size": 262208,
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "sliding_window": 1024,
        "query_pre_attn_scalar": 256,
        "max_position_embeddings": 131072,
        "pad_token_id": 0,
    },
    "qwen3-14b": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
    },
    "gemma-2-9b": {
        "model_type": "gemma2",
        "vocab_size": 256000,
        "hidden_size": 3584,
        "intermediate_size": 14336,
        "num_hidden_layers": 42,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
        "max_position_embeddings": 8192,
        "pad_token_id": 0,
    },
    "qwen3-4b": {
        "model_type": "qwen3",
        "vocab_size": 151669,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "pad_token_id": 0,
    },
    "qwen3-0.6b": {
        "model_type": "qwen3",
        "vocab_size": 151669,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "pad_token_id": 0,
    },
    "xlm-r-large": {
        "model_type": "xlm-roberta",
        "vocab_size": 250002,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "pad_token_id": 0,
    },
    "gte-multilingual": {
        "model_type": "gte",
        "vocab_size": 250048,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "pad_token_id": 0,
    },
    "tiny": {
        "model_type": "gemma3_text",
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "sliding_window": 32,
        "query_pre_attn_scalar": 16,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    },
}


def config_of(shape: str):
    """Return the config of a shape, with two labels.

    Raises:
        ValueError: unknown shape.
    """
    from transformers import AutoConfig

    if shape not in SHAPES:
        raise ValueError(f"--shape {shape}: expected one of {', '.join(SHAPES)}")
    return AutoConfig.for_model(**SHAPES[shape], num_labels=2)


def build(shape: str, device, dtype):
    """Build a classifier with random weights; token 0 is its pad token.

    Args:
        shape: a key of `SHAPES`.
        device: where the weights are made; they never pass through the host's memory.
        dtype: of the weights, a torch dtype.

    Returns:
        (model in evaluation mode whose forward gives logits of shape (batch, 2), vocabulary size)
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    config = config_of(shape)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForSequenceClassification.from_config(config, dtype=dtype)
    return model.eval(), config.vocab_size


def random_rows(pairs: int, vocabulary: int) -> list[list[int]]:
    """Return rows of random tokens, 45 on average; the longest of 32 has about 2.2 times that, as real pairs have."""
    import numpy as np

    rng, spread = np.random.default_rng(0), 0.42
    lengths = rng.lognormal(np.log(45) - spread**2 / 2, spread, pairs).round().clip(8, 192).astype(int)
    return [rng.integers(1, vocabulary, length).tolist() for length in lengths]


def matmul_weights(model) -> int:
    """Count the weights that every token is multiplied with: all linear layers, without embeddings and adapters."""
    from torch import nn

    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return sum(module.weight.numel() for name, module in linear.items() if "lora_" not in name)
