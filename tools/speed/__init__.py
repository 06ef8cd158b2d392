"""Speed measurements: ratios of two things in one run, medians of interleaved rounds."""

import json
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from zoo.engine.checkpoint import write_text
from zoo.engine.grid import hardware

from . import (
    detection,
    distillation,
    evaluation,
    exchange,
    frequency_ratio,
    fused_images,
    hosts,
    intervention,
    loading,
    plugin_steps,
    running,
    segmentation,
    volumes,
    yolo_trainer,
)

SUITES = {
    'plugins': (
        plugin_steps.measure,
        'Training step, three ResNet-18 branches at 112x112, batch 64 '
        '(aims: MWAM and OGM 1.02, OGM-GE 1.08, of which drawing its noise is the floor)',
    ),
    'hosts': (hosts.measure_hosts, 'Training step of each published host, without plugins'),
    'hosts_plugins': (
        hosts.measure_plugins,
        'Training step of hosts with each plugin, over the plain step of a copy in the same round',
    ),
    'encoders': (
        hosts.measure_encoders,
        'Training step of late fusion by precision, memory format and compilation',
    ),
    'distillation': (
        distillation.measure,
        'Training step of a ResNet-18 at 112x112, batch 64, taught by another (aim: FD-CMKD within 1.05 of the '
        "student's step and the teacher's pass)",
    ),
    'intervention': (
        intervention.measure,
        'Training step with variants of the batch, three ResNet-18 branches at 64x64, batch 32 (aim: what its passes '
        'take, and nothing beside)',
    ),
    'fused_images': (
        fused_images.measure,
        'ISFuse at 256x256, one thread; ratio: of the ms / GMAC, to a plain convolution',
    ),
    'frequency': (
        frequency_ratio.measure,
        'Frequency ratio against an FFT-based route, milliseconds, one thread (aim: a speedup of 6)',
    ),
    'sweep': (evaluation.measure_sweep, 'Modality sweep, three ResNet-18 branches at 112x112 (aim: 1.3)'),
    'rows': (evaluation.measure_rows, 'Selecting present rows against encoding all, forward and backward'),
    'runner': (running.measure, 'One epoch on DigitScenes (aim: 1.05)'),
    'esanet': (
        segmentation.measure_esanet,
        'ESANet at 480x640 against a plain convolution; ratio: of the ms / GMAC (aim: less time and memory than its '
        'reference implementation, in one run with that)',
    ),
    'segmentation_sweep': (
        segmentation.measure_sweep,
        'Modality sweep of the generic segmentation host, DeepLabV3+ on two ResNet-18 at 480x640 (aim: 1.3)',
    ),
    'volumes': (
        volumes.measure_layers,
        "RFNet and mmFormer at 80x80x80, one volume, against the same weights in torch's own layers (aim: less time "
        'and memory)',
    ),
    'volume_subsets': (
        volumes.measure_subsets,
        'Modality sweep of RFNet and mmFormer at 64x64x64: 15 subsets from one encoding over 15 forwards (aim: that of '
        'the multiply-accumulates)',
    ),
    'emcam': (
        exchange.measure,
        'EMCAM and its halves on two maps of 8x64x32x32, forward and backward, against Concat + 1x1 in the same memory '
        'format',
    ),
    'loading': (
        loading.measure,
        'Loading NYUv2 while ESANet R34-NBt1D trains, batch 4 (aim: next to no time spent waiting with workers)',
    ),
    'yolo_trainer': (
        yolo_trainer.measure,
        "YOLOv8n on one modality at 320x320, float32: ultralytics' own trainer and ours, on the same batches (aim: a "
        'step of at most 1.1)',
    ),
    'yolo_streams': (
        detection.measure_streams,
        'The second stream of two-stream YOLOv8n at 320x320, milliseconds (aim: at most 1.1 of its backbone)',
    ),
    'yolo_mwam': (detection.measure_mwam, 'Training step of two-stream YOLOv8n at 320x320 (aim: 1.02)'),
    'yolo_sweep': (
        detection.measure_sweep,
        'Modality sweep of two-stream YOLOv8n at 320x320 (aim: that of the multiply-accumulates and what follows them)',
    ),
    'yolo_parts': (detection.measure_parts, 'Parts of a training step of YOLOv8n on one modality at 320x320'),
}
FOLDER = Path('results/speed')


def measure_all(device: str, pattern: str = '*') -> None:
    """Run the suites whose name matches, print their tables, keep the figures, and write ``docs/speed.md``.

    Suites that take minutes give one row after the other, and each is kept at once.
    """
    machine = torch.cuda.get_device_name() + ', ' + hardware() if device != 'cpu' else hardware()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (measure, title) in SUITES.items():
        if not fnmatchcase(name, pattern):
            continue
        console, rows, path = Console(), [], FOLDER / f'{device.split(":")[0]}_{name}.json'
        figures = {'title': title, 'rows': rows, 'hardware': machine, 'threads': torch.get_num_threads()}
        figures['date'] = date.today().isoformat()
        with console.status(title):
            for row in measure(device):
                rows.append({k: _plain(v) for k, v in row.items()})
                console.print(_line(rows[-1]), highlight=False)
                write_text(path, json.dumps({**figures, 'stopped': True}, indent=1) + '\n')
        write_text(path, json.dumps(figures, indent=1) + '\n')
        console.print(_table(title, rows))
    write_text(Path('docs/speed.md'), report())


def report() -> str:
    """The kept figures as Markdown."""
    text = ['# Speed', '', '<!-- Written by `python tools/benchmark.py --speed`; do not edit. -->', '']
    text += ['Medians in one process; *ratio*: to the first row, each pair run one right after the other.', '']
    for path in sorted(FOLDER.glob('*.json')):
        figures = json.loads(path.read_text(encoding='utf8'))
        columns = list(dict.fromkeys(c for row in figures['rows'] for c in row))
        text += [
            f'## {figures["title"]}' + (', on a GPU' if path.name.startswith('cuda') else ''),
            '',
            '| ' + ' | '.join(columns) + ' |',
            '|---|' + '---:|' * (len(columns) - 1),
        ]
        text += ['| ' + ' | '.join(_cell(row.get(c, '')) for c in columns) + ' |' for row in figures['rows']]
        stopped = '; stopped before its end' if figures.get('stopped') else ''
        text += ['', f'{figures["hardware"]}, {figures["threads"]} thread(s), {figures["date"]}{stopped}', '']
    return '\n'.join(text).rstrip() + '\n'


def _line(row: dict[str, Any]) -> str:
    name, *cells = row.items()
    return '  '.join([str(name[1]), *(f'{k} {_cell(v)}' for k, v in cells)])


def _plain(value: Any) -> Any:
    return (
        'x'.join(map(str, value))
        if isinstance(value, tuple)
        else float(f'{value:.4g}')
        if isinstance(value, float)
        else value
    )


def _cell(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify='left')
    columns = list(dict.fromkeys(c for row in rows for c in row))
    for i, column in enumerate(columns):
        table.add_column(column, justify='right' if i else 'left')
    for row in rows:
        table.add_row(*(_cell(row.get(c, '')) for c in columns))
    return table
