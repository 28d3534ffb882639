"""One named function per loss term, each citing its equation. They import torch and nothing of this project."""

from .attention_alignment import attention_alignment_loss
from .context_attention import context_attention_loss
from .context_embedding import context_embedding_loss
from .diffusion import diffusion_loss

__all__ = ["attention_alignment_loss", "context_attention_loss", "context_embedding_loss", "diffusion_loss"]
