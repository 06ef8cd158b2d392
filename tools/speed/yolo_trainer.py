"""Training YOLOv8n on one modality against ultralytics' own trainer: the same model, images and boxes.

Here, and nowhere else in the project, ``ultralytics.engine`` is imported (AGPL-3.0, an optional extra). It runs as
`zoo.foreign_yolo` has it: offline, with settings in a folder of its own, without its callbacks, among them those that
send events; it writes to a temporary folder, which goes.
"""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.ops import box_convert

from zoo.datasets.digit_scenes import CLASSES
from zoo.engine import build_dataloader
from zoo.foreign_yolo import ultralytics_module

from .detection import BATCH, OPTIMISER, SIZE, Step, detector, scenes
from .timing import Laps

WARM_UP = 2
THEIRS, OURS = "ultralytics' trainer", 'ours'


def measure(
    device: str = 'cpu',
    steps: int | None = None,
    epochs: int | None = None,
    size: int = SIZE,
    batch: int = BATCH,
    batches: int = 8,
) -> list[dict[str, Any]]:
    """Steps and whole epochs of ultralytics' trainer, and ours right after each.

    Its loop runs as it is; ours takes turns in its callbacks. A *step* is what it does between two batches: images to
    floats, forward, loss, backward, clipping, SGD with momentum, its moving average, and the means of the losses that
    it shows; ours is `Step` on the very same batch, with the same rates, from the same weights. *Loading* is one batch
    of augmented images (mosaic, affine, HSV, flip) from the same files, without worker processes; for mosaics it draws
    from decoded images that it keeps (here of one batch; of eight, as is its default, it would keep this whole set),
    where ours draws from the whole set and reads them. An *epoch* has both, and neither validation nor checkpoints.
    Both compute in float32 with equally many threads; left alone it would take one less than there are cores.

    Args:
        device: On a GPU batches are eight times as large.
        steps: Pairs of steps.
        epochs: Pairs of epochs.
        size: Height and width of the images.
        batch: Images.
        batches: Of an epoch.

    Returns:
        Rows with ``ms`` and the ``ratio`` to the trainer's own.
    """
    gpu = device != 'cpu'
    batch *= 8 if gpu else 1
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder), batch * batches, size)
        duel = Duel(Path(folder), device, steps or (16 if not gpu else 50), epochs or 3, size, batch)
        with suppress(Finished):
            duel.trainer.train()
    numbers = {THEIRS: _numbers(duel.trainer.model), OURS: _numbers(duel.step.host)}
    rows = []
    for what, seconds in duel.seconds.items():
        for who, own in seconds.items():
            ratio = median(a / b for a, b in zip(own, seconds[THEIRS]))
            row = {'call': f'{what}, {who}', 'ms': 1e3 * median(own), 'ratio': ratio}
            rows.append({**row, 'parameters': numbers[who]} if what == 'step' else row)
    return rows


class Finished(Exception):
    """Ends the trainer's loop, which would validate and save otherwise."""


class Duel:
    """Two trainers that take turns; its methods named ``on_...`` are the callbacks of ultralytics' one.

    Args:
        folder: That of `write_scenes`.
        device: Where both train.
        steps: Pairs of steps to time, at least; whole epochs follow.
        epochs: Pairs of epochs.
        size: Height and width of the images.
        batch: Images.

    Attributes:
        seconds: Of a ``'step'``, of ``'loading'`` a batch, and of an ``'epoch'``, for each trainer.
        losses: What both say of each batch, the first included.
    """

    def __init__(self, folder: Path, device: str, steps: int, epochs: int, size: int, batch: int) -> None:
        self.device, self.steps, self.epochs = device, steps, epochs
        self.seconds: dict[str, dict[str, list[float]]] = {
            what: {THEIRS: [], OURS: []} for what in ('step', 'loading', 'epoch')
        }
        self.losses: list[tuple[Tensor, Tensor]] = []
        self.batch: dict[str, Tensor] = {}
        self.step = Step(detector('rgb').to(device), {})
        self.loader = our_loader(folder, size, batch, device)
        self.batches = endless(self.loader)
        threads = torch.get_num_threads()
        self.trainer = their_trainer(self, folder, size, batch)
        torch.set_num_threads(threads)

    def on_pretrain_routine_end(self, trainer: Any) -> None:
        """Both begin with the same weights."""
        trainer.train_loader.dataset.max_buffer_length = trainer.batch_size  # else it would hold this small set at once
        host = self.step.host
        state = trainer.model.model.state_dict()
        known = host.backbones['rgb'].state_dict() | host.head.state_dict()
        if {k: v.shape for k, v in known.items()} != {k: v.shape for k, v in state.items()}:
            raise RuntimeError('The two models differ.')
        for part in (host.backbones['rgb'], host.head):
            part.load_state_dict({k: state[k] for k in part.state_dict()})

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Steps first, then whole epochs."""
        self.whole = len(self.losses) >= WARM_UP + self.steps
        self.laps = Laps(self.device)

    def on_train_batch_start(self, trainer: Any) -> None:
        """Its batch is there."""
        if not self.whole:
            self.laps.lap('loading')

    def on_train_batch_end(self, trainer: Any) -> None:
        """It has made a step."""
        if self.whole:
            return
        self.laps.lap('step')
        theirs = self.laps.seconds()
        self.step.data = as_ours(self.batch)
        laps = Laps(self.device)
        losses = self.step()
        laps.lap('step')
        next(self.batches)
        laps.lap('loading')
        ours = laps.seconds()
        self.losses.append((trainer.loss.detach(), losses['loss'].detach()))
        if len(self.losses) > WARM_UP:
            self._note(theirs, ours)
        self.laps = Laps(self.device)

    def on_train_epoch_end(self, trainer: Any) -> None:
        """It has made an epoch."""
        if not self.whole:
            return
        self.laps.lap('epoch')
        theirs, laps = self.laps.seconds(), Laps(self.device)
        for data in self.loader:
            self.step.data = data
            self.step()
        laps.lap('epoch')
        self._note(theirs, laps.seconds())
        if len(self.seconds['epoch'][OURS]) == self.epochs:
            raise Finished

    def _note(self, theirs: dict[str, float], ours: dict[str, float]) -> None:
        for who, seconds in ((THEIRS, theirs), (OURS, ours)):
            for what, own in seconds.items():
                self.seconds[what][who].append(own)


def their_trainer(duel: Duel, folder: Path, size: int, batch: int) -> Any:
    """ultralytics' trainer with the published optimiser and augmentation, one step for each batch, without warm-up."""
    images = str(folder / 'images' / 'rgb' / 'train')

    class Trainer(ultralytics_module('ultralytics.models.yolo.detect').DetectionTrainer):
        def get_dataset(self) -> dict[str, Any]:
            names = dict(enumerate(CLASSES))
            return {'train': images, 'val': images, 'names': names, 'nc': len(names), 'channels': 3}

        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            duel.batch = dict(batch)
            return super().preprocess_batch(batch)

        def run_callbacks(self, event: str) -> None:
            if callback := getattr(duel, event, None):
                callback(self)

    optimizer = OPTIMISER['optimizer']
    switched_off = dict.fromkeys(('amp', 'deterministic', 'plots', 'pretrained', 'save', 'val', 'verbose'), False)
    return Trainer(
        overrides={
            'model': 'yolov8n.yaml',
            'data': 'DigitScenes',
            'project': str(folder / 'runs'),
            'device': 'cpu' if duel.device == 'cpu' else duel.device.partition(':')[2] or '0',
            'imgsz': size,
            'batch': batch,
            'nbs': batch,
            'epochs': 1000,
            'workers': 0,
            'optimizer': optimizer['type'],
            'lr0': optimizer['lr'],
            'momentum': optimizer['momentum'],
            'weight_decay': optimizer['weight_decay'],
            'warmup_epochs': 0,
            'close_mosaic': 0,
            **switched_off,
        }
    )


def our_loader(folder: Path, size: int, batch: int, device: str) -> DataLoader:
    """The same files with the same augmentation."""
    dataset = {
        'type': 'PairedYOLO',
        'root': str(folder),
        'classes': list(CLASSES),
        'channels': {'rgb': 3},
        'labels': 'rgb',
        'transforms': [
            {'type': 'Mosaic', 'size': size},
            {'type': 'RandomAffine', 'size': size, 'translate': 0.1, 'scale': 0.5},
            {'type': 'RandomHSV', 'h': (-0.015, 0.015), 's': (0.3, 1.7), 'v': (0.6, 1.4), 'shift_hue': True},
            {'type': 'RandomFlip'},
        ],
    }
    cfg = {'dataset': dataset, 'batch_size': batch, 'num_workers': 0}
    return build_dataloader(cfg, training=True, cuda=device != 'cpu')


def endless(loader: DataLoader) -> Iterator[dict[str, Any]]:
    """Epoch after epoch."""
    epoch = 0
    while True:
        loader.sampler.set_position(epoch)
        yield from loader
        epoch += 1


def as_ours(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of ultralytics' loader, collated as ours."""
    images, rows = batch['img'], batch['batch_idx'].long()
    scale = torch.tensor(images.shape[:1:-1]).repeat(2)
    boxes = box_convert(batch['bboxes'], 'cxcywh', 'xyxy') * scale
    count = range(len(images))
    return {
        'inputs': {'rgb': images},
        'target': {
            'boxes': [boxes[rows == i] for i in count],
            'labels': [batch['cls'][rows == i, 0].long() for i in count],
        },
    }


def write_scenes(root: Path, count: int, size: int) -> None:
    """DigitScenes as JPEG files with YOLO's text files, ``{images,labels}/rgb/train``."""
    data = scenes(count, size)
    folders = [root / kind / 'rgb' / 'train' for kind in ('images', 'labels')]
    for folder in folders:
        folder.mkdir(parents=True)
    target = data['target']
    for i, (image, boxes, labels) in enumerate(zip(data['inputs']['rgb'], target['boxes'], target['labels'])):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folders[0] / f'{i:04d}.jpg', quality=95)
        rows = torch.cat((labels[:, None], box_convert(boxes, 'xyxy', 'cxcywh') / size), 1).tolist()
        lines = [f'{int(label)} ' + ' '.join(f'{x:.6f}' for x in box) for label, *box in rows]
        (folders[1] / f'{i:04d}.txt').write_text('\n'.join(lines) + '\n')


def _numbers(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
