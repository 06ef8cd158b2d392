"""The tool that draws predictions, as its users meet it, and the predictions behind the pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from registry import DATASETS
from zoo.colour import recoloured
from zoo.engine import build_host, load_config
from zoo.engine.predict import FileItems, Item, TestItems, predict
from zoo.engine.sample_files import SampleFiles, find_samples
from zoo.visual import Scene, detection
from zoo.visual.tasks import class_colour

TOY = Path(__file__).parents[1] / 'toy'
MASKS = """
custom_imports = ['toy_masks']
model = dict(
    type='EncoderDecoder', modalities=['rgb', 'depth'], num_classes=4, encoder='test_resnet',
    in_chans=dict(rgb=3, depth=1), data_preprocessor=dict(invalid=dict(depth=0)),
    head=dict(type='smp.FPN', decoder_pyramid_channels=16, decoder_segmentation_channels=32),
)
plugins = ['ModalityDropout']
test_dataloader = dict(dataset=dict(type='ToyMasks', transforms=[dict(type='Resize', size=(32, 64), inputs_only=True)]))
test_evaluator = 'MeanIoU'
"""


@pytest.fixture
def config(tmp_path):
    """The config, with a checkpoint of untrained weights beside it."""
    path = tmp_path / 'masks.py'
    path.write_text(MASKS)
    cfg = load_config(path)
    cfg.plugins = []
    host = build_host(cfg)
    torch.save({'state_dict': host.state_dict(), 'meta': {'classes': ['w', 'x', 'y', 'z']}}, tmp_path / 'best.pth')
    return path


@pytest.fixture
def photos(tmp_path):
    """Pictures of 50x70, three in colour and two with depth."""
    noise = np.random.default_rng(0)
    for folder, names in (('rgb', 'abc'), ('depth', 'ac')):
        (tmp_path / 'photos' / folder).mkdir(parents=True)
        for name in names:
            shape, kind = ((50, 70, 3), np.uint8) if folder == 'rgb' else ((50, 70), np.uint16)
            pixels = noise.integers(0, 250, shape).astype(kind)
            Image.fromarray(pixels).save(tmp_path / 'photos' / folder / f'{name}.png')
    return tmp_path / 'photos'


def pictures(folder='predictions'):
    return sorted(p.name for p in Path(folder).iterdir())


def test_without_inputs_it_draws_the_first_test_samples(here, config):
    code, out, err = here('predict', config, 'best.pth', '--count', 3, '--batch-size', 2, '--device', 'cpu')
    assert code == 0, err
    assert out.splitlines() == ['Wrote 3 pictures to predictions.']
    assert pictures() == ['test_00000.png', 'test_00001.png', 'test_00002.png']
    with Image.open('predictions/test_00000.png') as image:
        assert image.size[0] == 2 * 14 + 3 * 256 + 2 * 10  # rgb, depth, truth; rgb, depth, both


def test_files_of_a_folder_are_drawn_and_absent_ones_counted(here, config, photos):
    code, out, err = here('predict', config, 'best.pth', '--out', 'drawn', photos, '--subsets', 'rgb,full')
    assert code == 0, err
    assert out.splitlines() == ['depth is absent in 1 of 3 samples.', 'Wrote 3 pictures to drawn.']
    assert pictures('drawn') == ['a.png', 'b.png', 'c.png']
    with Image.open('drawn/b.png') as image:
        assert image.size[0] == 2 * 14 + 2 * 280 + 10


def test_a_list_and_single_files_are_drawn_too(here, config, photos):
    (photos / 'some.txt').write_text('depth=depth/a.png rgb=rgb/b.png\n')
    code, _, err = here('predict', config, 'best.pth', '--device', 'cpu', photos / 'some.txt', photos / 'rgb/b.png')
    assert code == 0, err
    assert pictures() == ['a.png', 'b.png']


def test_the_host_of_another_task_is_drawn_its_own_way(here, tmp_path):
    host = build_host(load_config(TOY / 'toy_config.py', plugins=['none']))
    torch.save(host.state_dict(), tmp_path / 'weights.pth')
    code, out, err = here('predict', TOY / 'toy_config.py', 'weights.pth', '--count', 4)
    assert code == 0, err
    assert out.splitlines() == [
        'rgb is absent in 1 of 4 samples.',
        'depth is absent in 1 of 4 samples.',
        'Wrote 4 pictures to predictions.',
    ]


TASKS = """
model = dict(
    type='MAIL', modalities=['cells', 'skin'], num_classes=dict(cells=8, skin=7),
    encoder=dict(type='ERLAEncoder', depths=(1, 1), widths=(8, 16), stem_width=8),
)
_loaders = {
    s: dict(batch_size=2, num_workers=0, dataset=dict(type='UnpairedMulti', transforms=[dict(type='Resize', size=32)],
            datasets={n: dict(type='MedMNIST', root='.', name=m, split=s, cache='cache')
                      for n, m in (('cells', 'blood'), ('skin', 'derma'))}))
    for s in ('train', 'val', 'test')
}
train_dataloader, val_dataloader, test_dataloader = _loaders['train'], _loaders['val'], _loaders['test']
val_evaluator = test_evaluator = dict(type='MultiTask', metrics=dict(cells='Accuracy', skin='Accuracy'))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(max_epochs=1)
"""


def test_each_of_several_tasks_is_predicted_with_its_own_classes(here, tmp_path):
    noise = np.random.default_rng(0)
    for name, count in (('blood', 8), ('derma', 7)):
        arrays = {}
        for split in ('train', 'val', 'test'):
            arrays[f'{split}_images'] = noise.integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
            arrays[f'{split}_labels'] = noise.integers(0, count, (2, 1), dtype=np.uint8)
        np.savez_compressed(tmp_path / f'{name}mnist.npz', **arrays)
    (tmp_path / 'tasks.py').write_text(TASKS)
    code, _, err = here('train', 'tasks.py', '--work-dir', 'run', '--device', 'cpu')
    assert code == 0, err
    code, out, err = here('predict', 'tasks.py', 'run/best.pth', '--device', 'cpu')
    assert code == 0, err
    assert out.splitlines() == ['Wrote 2 pictures to predictions.']
    cfg = load_config(tmp_path / 'tasks.py')
    host, saved = build_host(cfg), torch.load(tmp_path / 'run' / 'best.pth')
    files = [SampleFiles('a', {'skin': tmp_path / 'a.png'})]
    classes = FileItems(files, cfg, host, saved['meta']['classes']).classes
    assert {task: (len(names), names[0]) for task, names in classes.items()} == {
        'cells': (8, 'basophil'),
        'skin': (7, 'actinic keratoses'),
    }


MISTAKES = {
    'count': (('--count', 0), 'count must be at least 1, got 0'),
    'nothing there': (('nowhere',), 'nowhere: no such file or folder'),
    'unreadable': (('photos/rgb/broken.png',), 'broken.png: can not be read as an image'),
    'subset': (('--subsets', 'dept'), "named 'dept'. Did you mean 'depth'"),
    'out': (('--out', 'best.pth/x'), "'best.pth/x' can not be written"),
    'no test data': (('--cfg-options', 'test_dataloader=None'), 'The config has no test_dataloader'),
    'classes': (('--cfg-options', 'model.num_classes=5'), 'has head.'),
    'other readers': (
        ('photos', '--cfg-options', 'custom_imports=[toy_scenes]', 'test_dataloader.dataset={type: ToyScenes}'),
        'ToyScenes has no read_files',
    ),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2(here, config, photos, name):
    (photos / 'rgb' / 'broken.png').write_text('no picture')
    arguments, message = MISTAKES[name]
    code, _, err = here('predict', config, 'best.pth', *arguments)
    assert code == 2, err
    assert err.count('\n') == 1, err
    assert message in err
    assert not list(Path().glob('predictions/*.png'))


def build(config):
    cfg = load_config(config)
    cfg.plugins = []
    return cfg, build_host(cfg).eval()


def test_files_arrive_as_the_test_data_would_deliver_them(config, photos):
    cfg, host = build(config)
    items = FileItems(find_samples([photos], host.modalities), cfg, host, ['w', 'x', 'y', 'z'])
    read = DATASETS.find('ToyMasks').read_input('depth', photos / 'depth' / 'a.png')
    a, b = items[0], items[1]
    assert a.scene.size == (50, 70)
    assert a.scene.classes == ['w', 'x', 'y', 'z']
    assert a.scene.invalid == {'depth': 0}
    torch.testing.assert_close(a.scene.inputs['depth'], read)
    assert {m: tuple(x.shape) for m, x in a.sample['inputs'].items()} == {'rgb': (3, 32, 64), 'depth': (1, 32, 64)}
    assert set(a.sample['inputs']['depth'].unique().tolist()) <= set(read.unique().tolist())  # not mixed
    assert b.sample['present'].tolist() == [True, False]
    assert 'depth' not in b.scene.inputs


def test_names_of_classes_come_from_the_data_set_where_the_checkpoint_has_none(config, photos):
    cfg, host = build(config)
    files = [SampleFiles('a', {'rgb': photos / 'rgb' / 'a.png'})]
    assert FileItems(files, cfg, host, [])[0].scene.classes == ('ground', 'stripe', 'block', 'dot')


def test_test_data_keep_the_size_of_their_masks(config):
    cfg, host = build(config)
    cfg.test_dataloader.dataset.transforms[0].size = (64, 96)
    item = TestItems(cfg, host, 0, 5)[1]
    assert item.scene.size == (32, 64)
    assert item.sample['inputs']['rgb'].shape == (3, 64, 96)


def items_of(present, size=(16, 24)):
    made = []
    for i, here in enumerate(present):
        given = {m: torch.randn(c, *size) for (m, c), h in zip((('rgb', 3), ('depth', 1)), here) if h}
        made.append(
            Item(Scene(str(i), ('rgb', 'depth'), given, size), {'inputs': given, 'present': torch.tensor(here)})
        )
    return made


@pytest.mark.parametrize('separable', [True, False])
@pytest.mark.parametrize('batch_size', [1, 3, 8])
def test_predictions_are_those_of_single_samples_with_the_subset_present(separable, batch_size):
    host = zoo.create_host(
        'late_fusion',
        modalities=('rgb', 'depth'),
        num_classes=5,
        encoder='test_resnet',
        in_chans={'rgb': 3, 'depth': 1},
    ).eval()
    host.separable = separable
    items = items_of([(True, True), (True, False), (False, True), (True, True)]) + items_of([(True, True)], (24, 16))
    subsets = [('depth',), ('rgb', 'depth')]
    found = list(predict(host, items, subsets, lambda scene, logits: (scene.name, logits), batch_size))
    assert [item.scene.name for item, _ in found] == ['0', '1', '2', '3', '0']
    assert [list(f) for _, f in found] == [subsets, subsets[1:], subsets, subsets, subsets]
    for item, results in found:
        for subset, (name, logits) in results.items():
            assert name == item.scene.name
            given = {m: x[None] for m, x in item.sample['inputs'].items() if m in subset}
            present = torch.tensor([[m in given for m in host.modalities]])
            with torch.inference_mode():
                torch.testing.assert_close(logits, host(given, present)[0], rtol=1e-4, atol=1e-5)


def test_predicting_leaves_the_host_as_it_was():
    host = zoo.create_host(
        'late_fusion',
        modalities=('rgb', 'depth'),
        num_classes=5,
        encoder='test_resnet',
        in_chans={'rgb': 3, 'depth': 1},
    ).train()
    before = {k: v.clone() for k, v in host.state_dict().items()}
    list(predict(host, items_of([(True, True)] * 3), [('rgb',)], lambda scene, logits: None))
    assert host.training
    assert all(torch.equal(v, before[k]) for k, v in host.state_dict().items())


BOXES = """
custom_imports = ['toy_boxes']
model = dict(type='ToyDetector')
test_dataloader = dict(dataset=dict(type='ToyBoxes', transforms=TRANSFORMS))
test_evaluator = 'MeanAP'
"""


def detector(tmp_path, transforms=()):
    path = tmp_path / 'boxes.py'
    path.write_text(BOXES.replace('TRANSFORMS', repr(list(transforms))))
    cfg, host = build(path)
    torch.save(host.state_dict(), tmp_path / 'boxes.pth')
    return cfg, host


def test_of_a_detector_on_test_data_the_curves_of_the_drawn_samples_are_written(here, tmp_path):
    detector(tmp_path)
    code, out, err = here('predict', 'boxes.py', 'boxes.pth', '--count', 2, '--device', 'cpu')
    assert code == 0, err
    assert out.splitlines() == [
        'Wrote 2 pictures to predictions.',
        'Their precision-recall curves, of these samples only: predictions/pr_curves.png.',
    ]
    assert pictures() == ['pr_curves.csv', 'pr_curves.png', 'test_00000.png', 'test_00001.png']
    header, first, *_ = Path('predictions/pr_curves.csv').read_text().splitlines()
    assert header == 'class,recall,rgb,ir,rgb+ir'
    assert first == 'mean,0.00,1.0000,1.0000,1.0000'


@pytest.fixture
def painted(tmp_path):
    """A picture of 50x100 in both modalities, bright from (30, 10) to (70, 25)."""
    pixels = np.zeros((50, 100, 3), dtype=np.uint8)
    pixels[10:25, 30:70] = 240
    for folder, image in (('rgb', pixels), ('ir', pixels[..., 0])):
        (tmp_path / 'painted' / folder).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / 'painted' / folder / 'a.png')
    return tmp_path / 'painted'


@pytest.mark.parametrize(
    ('transform', 'shape', 'place'),
    [
        (dict(type='LetterBox', size=96, fill=0), (96, 96), (24, 0, 48, 96)),
        (dict(type='LetterBox', size=(32, 128), fill=0), (32, 128), (0, 32, 32, 64)),
        (dict(type='Resize', size=(64, 64)), (64, 64), (0, 0, 64, 64)),
        (None, (50, 100), (0, 0, 50, 100)),
    ],
)
def test_boxes_in_files_lie_on_the_object_in_the_picture_as_it_is(tmp_path, painted, transform, shape, place):
    cfg, host = detector(tmp_path, [transform] if transform else [])
    item = FileItems(find_samples([painted], host.modalities), cfg, host, [])[0]
    assert item.sample['inputs']['rgb'].shape == (3, *shape)
    assert item.scene.place == place
    assert item.scene.size == (50, 100)
    read = {}
    list(predict(host, [item], [('rgb', 'ir')], lambda scene, found: read.update(panel=detection(scene, found))))
    image = np.asarray(read['panel'].image)
    scale = item.scene.panel_size[0] / 100
    y, x = (image == class_colour(1)).all(-1).nonzero()
    x1, x2, y2 = x.min() / scale, (x.max() + 1) / scale, (y.max() + 1) / scale  # above it is the caption
    # a blurred edge moves the box by a pixel of the host's input
    np.testing.assert_allclose([x1, x2, y2], [30, 70, 25], atol=100 / place[3] + 0.5)


def test_a_host_that_finishes_its_predictions_later_is_asked_to(tmp_path):
    cfg, host = detector(tmp_path)
    found = list(predict(host, TestItems(cfg, host, 0, 3), [('ir',)], lambda scene, given: given.tolist()))
    assert [f[('ir',)] for _, f in found] == [
        [[3, 5, 23, 17, pytest.approx(0.9), 0]],
        [[4, 5, 24, 17, pytest.approx(0.9), 1]],
        [],
    ]


VOLUMES = """
model = dict(
    type='RFNet', modalities=['flair', 't1'], num_classes=4, widths=(2, 4), hidden=4, aux_heads=False,
    window=(8, 8, 8), pad_to=2,
)
_transforms = [dict(type='VolumeCrop', size=4)]
test_dataloader = dict(dataset=dict(type='BraTS', root='nowhere', least=6, transforms=_transforms))
test_evaluator = 'MeanDice'
"""
AFFINE = np.array([[-1.0, 0, 0, 90], [0, -1.5, 0, 126], [0, 0, 2, -72], [0, 0, 0, 1]])
HEAD = (slice(2, 10), slice(3, 12), slice(1, 8))  # 8 x 9 x 7 of 12 x 14 x 10
SHAPE = (12, 14, 10)


@pytest.fixture
def heads(tmp_path):
    """A config for volumes with a checkpoint of random weights, and two cases of which one lacks t1."""
    nibabel = pytest.importorskip('nibabel')
    (tmp_path / 'volumes.py').write_text(VOLUMES)
    host = build_host(load_config(tmp_path / 'volumes.py'))
    torch.nn.init.normal_(host.decoder.classify.weight, generator=torch.Generator().manual_seed(0))
    torch.save(host.state_dict(), tmp_path / 'volumes.pth')
    noise = np.random.default_rng(0)
    for case, sequences in (('a', ('flair', 't1', 't2', 'seg')), ('b', ('flair',))):
        (tmp_path / 'heads' / case).mkdir(parents=True)
        for m in sequences:
            array = np.zeros(SHAPE, np.int16)
            array[HEAD] = noise.integers(1, 900, array[HEAD].shape)
            image = nibabel.Nifti1Image(array, AFFINE)
            image.header.set_xyzt_units('mm')
            nibabel.save(image, tmp_path / 'heads' / case / f'{case}_{m}.nii.gz')
    return tmp_path / 'heads'


def test_labels_of_volumes_are_written_on_the_grid_of_their_files(here, heads):
    import nibabel

    code, out, err = here('predict', 'volumes.py', 'volumes.pth', heads, '--device', 'cpu', '--batch-size', 1)
    assert code == 0, err
    assert out.splitlines() == [
        't1 is absent in 1 of 2 samples.',
        'Wrote 2 pictures and 4 label maps to predictions.',
    ]
    assert pictures() == [*('a.png', 'a_flair+t1.nii.gz', 'a_flair.nii.gz', 'a_t1.nii.gz', 'b.png', 'b_flair.nii.gz')]
    _, host = build('volumes.py')
    host.load_state_dict(torch.load('volumes.pth'))
    inputs = {}
    for m in host.modalities:
        array = nibabel.load(heads / 'a' / f'a_{m}.nii.gz').get_fdata()[HEAD]
        inputs[m] = torch.from_numpy((array - array.mean()) / array.std())[None, None].float()
    with torch.no_grad():
        expected = host(inputs)[0].argmax(0).numpy()
    assert set(np.unique(expected)) > {0, 3}
    image = nibabel.load('predictions/a_flair+t1.nii.gz')
    labels = np.asarray(image.dataobj)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.header.get_xyzt_units()[0] == 'mm'
    whole = np.zeros(SHAPE, int)
    whole[HEAD] = np.where(expected == 3, 4, expected)
    np.testing.assert_array_equal(labels, whole)


def test_a_stack_of_sequences_gives_labels_of_its_own_kind(here, heads):
    (heads / 'vol').mkdir()
    stack = np.random.default_rng(0).standard_normal((8, 9, 7, 4)).astype(np.float32)
    stack[..., 2] = np.nan  # t1
    np.save(heads / 'vol' / 'c_vol.npy', stack)
    code, out, err = here('predict', 'volumes.py', 'volumes.pth', heads / 'vol' / 'c_vol.npy', '--subsets', 'full')
    assert code == 0, err
    assert out.splitlines() == ['t1 is absent in 1 of 1 samples.', 'Wrote 1 picture and 1 label map to predictions.']
    labels = np.load('predictions/c_flair.npy')
    assert labels.shape == (8, 9, 7)
    assert labels.dtype == np.uint8
    assert labels.max() < 4


VOLUME_MISTAKES = {
    'affine': (lambda image: image.__class__(image.dataobj, np.eye(4)), 'a_t1.nii.gz: its affine differs from that of'),
    'shape': (lambda image: image.slicer[:-1], 'a_t1.nii.gz: its shape is (11, 14, 10), that of a_flair.nii.gz is'),
    'constant': (lambda image: image.__class__(0 * image.get_fdata(), AFFINE), 'a_t1.nii.gz: it is constant inside'),
}


@pytest.mark.parametrize('name', VOLUME_MISTAKES)
def test_files_of_a_case_that_do_not_fit_get_one_line(here, heads, name):
    import nibabel

    change, message = VOLUME_MISTAKES[name]
    image = nibabel.load(heads / 'a' / 'a_t1.nii.gz')
    nibabel.save(change(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine)), heads / 'a' / 'a_t1.nii.gz')
    code, _, err = here('predict', 'volumes.py', 'volumes.pth', heads / 'a' / 'a_flair.nii.gz', '--device', 'cpu')
    assert code == 2, err
    assert err.count('\n') == 1, err
    assert message in err


def test_volumes_lie_in_folders_of_their_modalities_or_in_lists_too(here, heads):
    (heads / 'mine.txt').write_text('flair=a/a_flair.nii.gz t1=a/a_t1.nii.gz\nflair=b/b_flair.nii.gz\n')
    for m in ('flair', 't1'):
        (heads / 'plain' / m).mkdir(parents=True)
        (heads / 'plain' / m / 'x.nii.gz').write_bytes((heads / 'a' / f'a_{m}.nii.gz').read_bytes())
    arguments = ('--subsets', 'full', '--device', 'cpu')
    code, _, err = here('predict', 'volumes.py', 'volumes.pth', heads / 'mine.txt', heads / 'plain', *arguments)
    assert code == 0, err
    assert pictures() == [
        *('a_flair.png', 'a_flair_flair+t1.nii.gz', 'b_flair.png', 'b_flair_flair.nii.gz', 'x.png'),
        'x_flair+t1.nii.gz',
    ]


FUSION = """
model = dict(
    type='ISFuse', modalities=['vis', 'ir'], in_chans=dict(vis=3, ir=1), dim=4,
    data_preprocessor=dict(std=dict(vis=255, ir=255)),
)
test_dataloader = dict(dataset=dict(type='FusionPairs', root='pairs', split='all', layout='m3fd'))
test_evaluator = 'ImageFusion'
"""


@pytest.fixture
def pairs(tmp_path):
    """Three pairs of 37x53, and a host to fuse them."""
    noise = np.random.default_rng(0)
    for folder, shape in (('Vis', (37, 53, 3)), ('Ir', (37, 53))):
        (tmp_path / 'pairs' / folder).mkdir(parents=True)
        for name in 'abc':
            Image.fromarray(noise.integers(0, 255, shape, np.uint8)).save(tmp_path / 'pairs' / folder / f'{name}.png')
    (tmp_path / 'fusion.py').write_text(FUSION)
    host = build_host(load_config(tmp_path / 'fusion.py')).eval()
    torch.save(host.state_dict(), tmp_path / 'fusion.pth')
    return host


@pytest.mark.filterwarnings('ignore:.*published are')
def test_fused_images_are_written_at_full_size_and_in_colour(here, pairs):
    code, out, err = here('predict', 'fusion.py', 'fusion.pth', 'pairs', '--count', 2, '--device', 'cpu')
    assert code == 0, err
    assert out.splitlines() == ['Wrote 2 pictures and 6 fused images to predictions.']
    subsets = ('ir', 'vis', 'vis+ir')
    assert pictures() == sorted(f'{n}{s}.png' for n in 'ab' for s in ('', *(f'_{s}_fused' for s in subsets)))
    files = [Path('pairs') / f / 'a.png' for f in ('Vis', 'Ir')]
    vis, ir = (torch.from_numpy(np.array(Image.open(f))) / 255 for f in files)
    with torch.no_grad():
        expected = pairs({'vis': vis.movedim(-1, 0)[None], 'ir': ir[None, None]})[0]
    with Image.open('predictions/a_vis+ir_fused.png') as image:
        assert image.mode == 'RGB'
        found = torch.from_numpy(np.array(image)).movedim(-1, 0)
    expected = recoloured(expected, vis.movedim(-1, 0))
    torch.testing.assert_close(found / 255, expected, rtol=0, atol=0.51 / 255)
    with Image.open('predictions/a_ir_fused.png') as image:
        assert (image.mode, image.size) == ('L', (53, 37))
    code, out, err = here('predict', 'fusion.py', 'fusion.pth', '--count', 1, '--subsets', 'full', '--out', 'test')
    assert code == 0, err
    assert pictures('test') == ['test_00000.png', 'test_00000_vis+ir_fused.png']
