"""C2KD: two networks that teach each other through proxies, where these agree."""

from typing import Any

from torch import Tensor, nn

from registry import PLUGINS, InputError
from zoo.host import MultimodalHost

from .distillation import Distillation, Knowledge, averaged, counted
from .logit_kd import kl_loss


def kendall_tau(x: Tensor, y: Tensor) -> Tensor:
    """Kendall's rank correlation (tau-a) of the columns of each row: (N, K), (N, K) -> (N,), in [-1, 1].

    >>> kendall_tau(Tensor([[1, 2, 3, 4]]), Tensor([[1, 2, 4, 3]]))
    tensor([0.6667])
    """
    k = x.shape[1]
    a, b = ((z[:, :, None] - z[:, None, :]).sign() for z in (x, y))
    return (a * b).sum((1, 2)) / max(k * (k - 1), 1)


def without_target(logits: Tensor, target: Tensor) -> Tensor:
    """Logits (N, K) with 0 at the target (N,)."""
    return logits.scatter(1, target[:, None], 0)


class Proxies(nn.Module):
    """Linear heads on the features of both networks."""

    def __init__(self, student: int, teacher: int, classes: int) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(student, classes), nn.Linear(teacher, classes)


@PLUGINS.register_module()
class C2KD(Distillation):
    """Cross-modal distillation through proxies with on-the-fly selection (C2KD, Huo et al., CVPR 2024).

    The teacher is a peer: trained along with its own losses (``loss_..._teacher``), in training mode, from its
    checkpoint where one is given, and gone from ``best.pth``. Each network and its proxy, a linear head on its
    features, pull at each other (``loss_proxy_student``, ``loss_proxy_teacher``: KL both ways, the other side
    detached); the proxies do so with the logit of the true class set to 0, in samples whose two proxies rank the
    classes alike: Kendall's tau above 0 (``loss_proxies``).

    Only hosts that give one prediction for each sample have it; features of maps are averaged over places.

    Args:
        teaching: See `Distillation`.

    Raises:
        InputError: See `Distillation`; a host that labels places.
    """

    reads = frozenset({'features', 'logits'})
    trains_teacher = True
    needs_checkpoint = False

    def attach(self, host: MultimodalHost) -> None:
        """See `Distillation`.

        Raises:
            InputError: The host labels places, or gives boxes.
        """
        if host.task != 'classification':
            raise InputError(f'{self.name} needs a host that classifies samples, {type(host).__name__} does not.')
        super().attach(host)

    def make_parts(self, student: int, teacher: int, classes: int) -> nn.Module:
        """The proxies."""
        return Proxies(student, teacher, classes)

    def terms(self, parts: nn.Module | None, student: Knowledge, teacher: Knowledge, target: Any) -> dict[str, Tensor]:
        """The three."""
        s, t = student.logits, teacher.logits
        proxy_s, proxy_t = parts.student(averaged(student.features)), parts.teacher(averaged(teacher.features))
        target, counts = counted(target, self.ignore_index, s.dtype)
        agrees = (kendall_tau(proxy_s.detach(), proxy_t.detach()) > 0).to(s.dtype) * counts
        self.log(agreement=agrees.mean())
        rest_s, rest_t = without_target(proxy_s, target), without_target(proxy_t, target)

        def between(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
            return kl_loss(x, y.detach(), 1.0, weights) + kl_loss(y, x.detach(), 1.0, weights)

        return {
            'loss_proxy_student': between(s, proxy_s),
            'loss_proxy_teacher': between(t, proxy_t),
            'loss_proxies': agrees.mean() * between(rest_s, rest_t, agrees),  # a mean over all samples
        }
