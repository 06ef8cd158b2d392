"""What the tools share: an error of the user's ends in one line and exit code 2."""

import argparse
import functools
import gc
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist
from mmengine.config import Config
from rich.console import Console
from rich.markup import escape

from registry import InputError, NameNotFound, PluginWarning

from .config import load_config, parse_options
from .memory import keep_freed_memory


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a tool's ``main``: users' mistakes print ``error: ...`` and exit with 2; anything else is a bug and keeps
    its traceback. ``COUNTERPOISE_TRACEBACK=1`` shows all of them."""

    @functools.wraps(main)
    def run() -> None:
        # for custom_imports from the user's own folder; last, so that it hides nothing of ours
        sys.path.append(str(Path.cwd()))
        warnings.filterwarnings('ignore', module='mmengine|torch')
        warnings.simplefilter('always', PluginWarning)
        keep_freed_memory()
        try:
            main()
        except (InputError, NameNotFound) as error:
            if os.environ.get('COUNTERPOISE_TRACEBACK'):
                raise
            line = escape(_one_line(str(error)))
            Console(stderr=True, soft_wrap=True, highlight=False).print(f'[bold red]error:[/] {line}')
            sys.exit(2)
        except KeyboardInterrupt:
            Console(stderr=True).print('stopped')
            sys.exit(130)
        finally:
            if dist.is_available() and dist.is_initialized():
                gc.collect()  # a DDP wrapper that still lives keeps the group's threads, and the process aborts at exit
                dist.destroy_process_group()

    return run


def common_flags(parser: argparse.ArgumentParser, checkpoint: bool = False) -> None:
    """Add what every tool takes that runs a config; with ``checkpoint`` also the checkpoint and which subsets."""
    parser.add_argument('config', help='the Python config it was trained with' if checkpoint else 'a Python config')
    if checkpoint:
        parser.add_argument('checkpoint', help='best.pth or iter_<n>.pth of a work directory')
        parser.add_argument(
            '--subsets', help='all, full, or a list such as rgb+depth,ir; that of the config by default (all)'
        )
    parser.add_argument('--device', help='cpu, cuda, cuda:1; the best there is by default')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change single values of the config'
    )
    parser.add_argument(
        '--trust-checkpoint', action='store_true', help='unpickle anything from checkpoints; may run code'
    )


def config_of(args: argparse.Namespace) -> Config:
    """The config that `common_flags` with a checkpoint name."""
    options = parse_options(args.cfg_options)
    if args.subsets:
        options['test_cfg.subsets'] = args.subsets
    return load_config(args.config, options=options)


def _one_line(text: str) -> str:
    if 'Original Traceback' in text:  # an error that a data loading worker sent
        text = re.split(r'(?:InputError|NameNotFound): ', text)[-1]
    return ' '.join(text.split('\n')).strip()
