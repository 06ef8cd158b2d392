"""Language models of transformers as the encoder of a text modality."""

import os
from typing import Any

import torch
from torch import Tensor, nn

from registry import ENCODERS, InputError
from zoo.batch import is_words
from zoo.foreign_text import brief, transformers_module

# Their mask may be given ready made, as (B, 1, 1, L). Of (B, L) transformers asks whether it hides anything, which
# waits for the GPU. In others the ready one would replace that of causal or of local attention.
BIDIRECTIONAL = frozenset({'albert', 'bert', 'camembert', 'distilbert', 'electra', 'roberta', 'xlm-roberta'})
POOLS = ('cls', 'mean', None)


@ENCODERS.register_module()
class TextEncoder(nn.Module):
    """A language model without its head: (B, 2, L) int64, ids of words and their mask -> (B, out_channels).

    It needs transformers (the extra ``text``). The mask is 1 for words and 0 for padding, which has no influence. A
    text without any word is harmless: the features of ``'cls'`` are those of its padding, else they are zeros.

    Args:
        model: The architecture: a type that transformers knows (``'bert'`` is BERT-base, the others have the sizes of
            their configuration's defaults), or a folder or a name on the Hugging Face Hub, whose configuration is read.
        in_chans: 2, ids and mask; hosts say it.
        pretrained: True takes the weights of ``model``, where it is a folder or a name; a folder or a name those, and
            its configuration, which must be of the same type.
        pool: ``'cls'``, the last hidden state of the first word; ``'mean'`` over the words; None for all hidden states
            (B, L, out_channels), zero at padding.
        kwargs: What the configuration shall have otherwise: ``num_hidden_layers=4``, ``hidden_dropout_prob=0.2``.

    Attributes:
        out_channels: Width of the features.

    Raises:
        InputError: transformers is not installed, an argument out of its range, an unknown architecture or one that is
            no model of text alone, or weights that can not be loaded.
    """

    reads_words = True  # its blank input has words, see `MultimodalHost.blank`

    def __init__(
        self,
        model: str = 'bert',
        in_chans: int = 2,
        pretrained: bool | str | os.PathLike = False,
        pool: str | None = 'cls',
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if in_chans != 2:
            raise InputError(f'A text has in_chans=2, ids and mask, got {in_chans!r}: say in_chans for each modality.')
        if pool not in POOLS:
            raise InputError(f"The pool of TextEncoder is 'cls', 'mean' or None, got {pool!r}.")
        self.pool = pool
        self.model = create_text_model(model, pretrained, **kwargs)
        self.out_channels: int = self.model.config.hidden_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, L) int64 -> (B, out_channels), or (B, L, out_channels) without pooling.

        Raises:
            InputError: Another shape or type, or more words than the model takes; on the CPU also ids beyond its
                vocabulary.
        """
        if x.ndim != 3 or x.shape[1] != 2 or not is_words(x):
            raise InputError(
                f'A text is int64 (B, 2, L), ids and mask, got {x.dtype} {tuple(x.shape)}. '
                'The preprocessor leaves it alone where neither mean nor std names it.'
            )
        config = self.model.config
        if x.shape[2] > (most := getattr(config, 'max_position_embeddings', None) or x.shape[2]):
            raise InputError(f'A text of {x.shape[2]} words is too long for {config.model_type}, which takes {most}.')
        ids, mask = x[:, 0], x[:, 1] > 0
        seen = mask | ~mask.any(1, keepdim=True)  # without any word softmax would give NaN
        if config.model_type in BIDIRECTIONAL and config._attn_implementation == 'sdpa':
            seen = seen[:, None, None]
        try:
            hidden = self.model(input_ids=ids, attention_mask=seen).last_hidden_state
        except IndexError as error:
            raise InputError(
                f'{config.model_type} has {config.vocab_size} words and positions for {most}, which the ids leave '
                f'({error}): the tokenizer of the data must be that of the model.'
            ) from error
        if self.pool == 'cls':
            return hidden[:, 0]
        words = torch.where(mask[..., None], hidden, 0)
        return words if self.pool is None else words.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def create_text_model(model: str, pretrained: bool | str | os.PathLike, **kwargs: Any) -> nn.Module:
    """A model of transformers without head and pooler; see `TextEncoder` for the arguments and errors."""
    transformers = transformers_module()
    known = transformers.CONFIG_MAPPING
    if pretrained is True and model in known:
        raise InputError(f'{model!r} is a type of models: pretrained is the folder or the name of one of them.')
    source = model if isinstance(pretrained, bool) else os.fspath(pretrained)
    try:
        if source in known:
            config = transformers.AutoConfig.for_model(source)
        else:
            config = transformers.AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise InputError(
            f'The text model {source!r} can not be read ({brief(error)}). It may be a type that transformers knows '
            '(bert, roberta, distilbert, ...), a folder, or a name on the Hugging Face Hub or in its cache.'
        ) from error
    if source != model and model in known and config.model_type != model:
        raise InputError(f'The weights in {source!r} are those of {config.model_type}, not of {model}.')
    if unknown := [k for k in kwargs if not hasattr(config, k)]:
        raise InputError(f'The configuration of {config.model_type} has no {unknown[0]!r}.')
    try:
        for key, value in kwargs.items():
            setattr(config, key, value)
        if getattr(config, 'is_encoder_decoder', False) or not getattr(config, 'hidden_size', None):
            raise InputError(f'{source!r} ({config.model_type}) is no model that encodes text alone.')
        net = _pretrained(source, config) if pretrained else transformers.AutoModel.from_config(config)
    except InputError:
        raise
    except Exception as error:  # each architecture checks its configuration in its own way
        raise InputError(f'The text model {source!r} can not be built ({brief(error)}).') from error
    if getattr(net, 'pooler', None) is not None:
        net.pooler = None  # nothing reads it: its parameters would have no gradient
    return net.train()


def _pretrained(source: str, config: Any) -> nn.Module:
    """With weights for all of it: transformers only warns where they are another model's."""
    net, found = transformers_module().AutoModel.from_pretrained(
        source, config=config, dtype=torch.float32, output_loading_info=True
    )
    if lacking := [k for k in found['missing_keys'] if not k.startswith('pooler.')]:
        raise InputError(f'The weights in {source!r} lack {len(lacking)} of the model, {sorted(lacking)[0]!r} first.')
    return net
