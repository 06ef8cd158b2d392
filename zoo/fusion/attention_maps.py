"""What fusion blocks share that make one attention map for all modalities."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ..rows import Rows, on_cpu


def present_columns(mask: Tensor) -> list[Tensor | None]:
    """One column (B,) of the mask for each modality; None for each where all are visibly present."""
    known = on_cpu(mask)
    return [None] * mask.shape[1] if known is not None and known.all() else list(mask.unbind(1))


def present_rows(mask: Tensor) -> list[Rows]:
    """The rows that have each modality; all where the mask can not be seen."""
    known = on_cpu(mask)
    columns = [None] * mask.shape[1] if known is None else known.unbind(1)
    return [Rows(rows, mask.device, len(mask)) for rows in columns]


def accumulate(total: Tensor | None, term: Tensor, here: Tensor | None) -> Tensor:
    """``total + term``, in place, in the samples (B,) that are ``here``. Both are finite in the others too: features
    are zero there, so that a product, which takes no pass of its own, leaves nothing of the term."""
    if here is not None:
        here = here.view(-1, *[1] * (term.ndim - 1)).to(term.dtype)
        return term * here if total is None else total.addcmul_(term, here)
    return term if total is None else total.add_(term)


def rescaled(total: Tensor, mask: Tensor) -> Tensor:
    """A sum over the modalities that are present, as if it were one over all: times M over their number."""
    count = mask.sum(1).clamp(min=1).view(-1, *[1] * (total.ndim - 1))
    return total * (mask.shape[1] / count)


def enlarged(operation: Callable[[Tensor, Tensor], Tensor], x: Tensor, coarse: Tensor) -> Tensor:
    """``operation(x, y)``, elementwise, of a map x (B, C, H, W) and y, the nearest enlargement of ``coarse``
    (B, C, h, w) to its size; where the sides divide, y is never made.

    >>> import torch
    >>> enlarged(torch.add, torch.zeros(1, 1, 2, 4), torch.tensor([[[[1.0, 2.0]]]]))
    tensor([[[[1., 1., 2., 2.],
              [1., 1., 2., 2.]]]])
    """
    (height, width), (h, w) = x.shape[2:], coarse.shape[2:]
    if (height, width) == (h, w) or h == w == 1:
        return operation(x, coarse)
    if height % h or width % w:
        return operation(x, F.interpolate(coarse, (height, width)))
    cells = x.unflatten(3, (w, width // w)).unflatten(2, (h, height // h))
    return operation(cells, coarse[:, :, :, None, :, None]).flatten(4).flatten(2, 3)
