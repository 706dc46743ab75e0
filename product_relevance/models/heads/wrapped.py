"""Wrap a loaded base as a model of transformers' own kind, so that code that asks for one finds it."""

from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

if TYPE_CHECKING:
    _Model = PreTrainedModel
else:
    _Model = object  # it stands in front of one of transformers' own classes


class Trainable(_Model):
    """What a model of transformers does otherwise when it is one of ours."""

    def enable_input_require_grads(self):
        """Leave the inputs without gradients, also under gradient checkpointing.

        transformers and PEFT let the output of the embeddings require them for re-entrant checkpoints, by one more
        hook per fold; then each layer below the lowest adapter keeps its activations. Other checkpoints need none.
        """

    def save_pretrained(self, *arguments: Any, save_original_format: bool = False, **options: Any) -> None:
        """Save weights under the names that they have here, by which a checkpoint is loaded into the model again."""
        keys = {"save_original_format": save_original_format, **options}
        super().save_pretrained(*arguments, **keys)


class Wrapped(Trainable, PreTrainedModel):
    """A base that was loaded by itself, under the name `model`, with something of ours around it."""

    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    # What the base can do was checked when it was loaded.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, base, config=None):
        super().__init__(config or base.config)
        self.model = base

    @classmethod
    def can_generate(cls) -> bool:
        """Return False; transformers would log at length that it found no way to write text, which none asks for."""
        return False

    def init_weights(self):
        """Leave the weights as they are: they are loaded, or set by the subclass."""

    def get_input_embeddings(self):
        """Return the base's embeddings."""
        return self.model.get_input_embeddings()
