"""Draw what a checkpoint predicts: one picture for each sample, with every subset of the modalities side by side.

INPUTS are any number of
    a folder     with a subfolder for each modality (rgb/, depth/); files of one stem are one sample, a missing one
                 means that its modality is absent
                 of BraTS: a case, <case>/<case>_flair.nii.gz and so on, or a folder of cases
    a list       *.txt: one sample a line, rgb=path depth=path; paths begin at the folder of the list
    image files  .../rgb/x.png, whose partners lie in the folders beside rgb; of BraTS one of a case, or its _vol.npy
and the first samples of the config's test data by default. Of a detector also pr_curves.png and pr_curves.csv are
written then: precision over recall on each subset, of the drawn samples only (tools/test.py writes those of all).
Of volumes in files the labels that each subset predicts are written too: <case>_flair+t1.nii.gz on the grid of the
input, with the labels of BraTS (4: enhancing tumour).
Of image fusion also what each subset was fused to, in the colours of its sources: <name>_vis+ir_fused.png.

Example: python tools/predict.py configs/late_fusion/r18_digitscenes.py work_dirs/r18_digitscenes/best.pth --count 4
"""

import argparse

from rich.console import Console

from zoo.engine import command
from zoo.engine.cli import common_flags, config_of
from zoo.engine.predict import predict_checkpoint


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_flags(parser, checkpoint=True)
    parser.add_argument('inputs', nargs='*', metavar='INPUT', help='see above')
    parser.add_argument('--out', default='predictions', help='the folder of the pictures; ./predictions by default')
    parser.add_argument('--count', type=int, help='at most so many samples; by default all INPUTS, or 8 test samples')
    parser.add_argument('--batch-size', type=int, default=4, help='samples that run at a time (4)')
    return parser.parse_intermixed_args()  # inputs may follow flags


@command
def main() -> None:
    """Parse, predict, draw."""
    import plugins  # noqa: F401  registers them

    args = parse_args()
    cfg = config_of(args)
    written = predict_checkpoint(
        cfg,
        args.checkpoint,
        args.inputs,
        args.out,
        args.device,
        args.trust_checkpoint,
        args.batch_size,
        args.count,
    )
    console = Console(highlight=False, soft_wrap=True)
    pictures, labels, fused = len(written.pictures), len(written.labels), len(written.fused)
    for modality, count in written.missing.items():
        if count:
            console.print(f'{modality} is absent in {count} of {pictures} samples.')
    maps = f' and {labels} label map{"s" * (labels > 1)}' if labels else ''
    maps += f' and {fused} fused image{"s" * (fused > 1)}' if fused else ''
    console.print(f'Wrote {pictures} picture{"s" * (pictures > 1)}{maps} to {args.out}.', markup=False)
    if written.curves:
        console.print(f'Their precision-recall curves, of these samples only: {written.curves}.', markup=False)


if __name__ == '__main__':
    main()
