"""AdversarialTraining: train on inputs that an attack has changed."""

from collections.abc import Mapping

import torch

from registry import ATTACKS, PLUGINS, InputError
from zoo.attacks import Attack
from zoo.batch import Batch
from zoo.host import MultimodalHost

from .plugin import Plugin


@PLUGINS.register_module()
class AdversarialTraining(Plugin):
    """Replaces the inputs of each training batch by an attack's (Madry et al., ICLR 2018).

    The attack is crafted on the host as it stands, in eval mode and without autocast, on the modalities that the batch
    has left when its turn comes. Plugins that draw random weights draw them anew before the attack and again before the
    pass that is trained (MAIL, Dhar et al., KDD 2026, Alg. 2). Draws follow the run's seed and iteration. The values of
    the first batch are checked against the attack's range; later ones are not, since that waits for the device.

    A step costs the attack's passes, forward and backward, on top of its own. Keep the checkpoint with the best score
    under attack: robust accuracy on new samples falls again in long runs (Rice et al., ICML 2020).

    Args:
        attack: An attack, or its name or config (`ATTACKS`). Hosts without losses of single samples, detectors, take
            those that only follow the gradient: FGSM, PGD, BIM, MIM.
        clean: Share of each batch, in [0, 1), that is left as it is.
        name: See `Plugin`.

    Raises:
        InputError: A share outside its range, or an attack that the host does not allow.
        NameNotFound: No such attack, or a modality that the host does not have.
    """

    redraws = True
    min_modalities = 1

    def __init__(self, attack: str | Mapping | Attack = 'PGD', clean: float = 0.0, name: str | None = None) -> None:
        super().__init__(name)
        if not isinstance(clean, (int, float)) or not 0 <= clean < 1:
            raise InputError(f'clean must be in [0, 1), got {clean!r}.')
        self.attack = attack if isinstance(attack, Attack) else ATTACKS.build(attack)
        self.clean = clean
        self.checked = False

    def attach(self, host: MultimodalHost) -> None:
        """Check that the attack works on the host."""
        super().attach(host)
        self.attack.check_host(host)

    def extra_repr(self) -> str:
        """The attack."""
        return f'{self.attack!r}, clean={self.clean}'

    def on_inputs(self, host: MultimodalHost, batch: Batch) -> Batch:
        """Attack the batch, or the rows that are not left clean."""
        generator = self.generator(host)
        for plugin in host.plugins.values():
            plugin.resample(host, 'attack')
        rows = None
        if self.clean:
            rows = torch.randperm(len(batch), generator=generator)[: max(1, round((1 - self.clean) * len(batch)))]
        attacked = self.attack(host, batch if rows is None else batch.select(rows), generator, check=not self.checked)
        self.checked = True
        for plugin in host.plugins.values():
            plugin.resample(host, 'inference')
        if rows is None:
            return attacked
        index = rows.to(batch.device, non_blocking=True)
        return batch.replace(inputs={m: x.index_copy(0, index, attacked.inputs[m]) for m, x in batch.inputs.items()})
