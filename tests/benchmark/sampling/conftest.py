"""Small random checkpoints with rotary and with absolute positions."""

import pytest

from reference_models.tiny import make_checkpoint
from tasks.pocket.words import vocabulary

ARCHITECTURE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """An untrained Llama checkpoint with the pocket vocabulary."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_checkpoint(folder, vocabulary(), seed=0, architecture=ARCHITECTURE)
    return folder


@pytest.fixture(scope="session")
def llama():
    """Rotary positions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=23, eos_token_id=1, pad_token_id=0, bos_token_id=None, **ARCHITECTURE)
    return LlamaForCausalLM(config).double().eval()


@pytest.fixture(scope="session")
def gpt2():
    """Learned absolute positions."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=23, n_positions=64, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, eos_token_id=1,
        bos_token_id=None, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).double().eval()
