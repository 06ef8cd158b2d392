"""What the tools share: an error of the user's ends in one line and exit code 2."""

import functools
import gc
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist
from rich.console import Console
from rich.markup import escape

from registry import InputError, NameNotFound, PluginWarning


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a tool's ``main``: users' mistakes print ``error: ...`` and exit with 2; anything else is a bug and keeps
    its traceback. ``COUNTERPOISE_TRACEBACK=1`` shows all of them."""

    @functools.wraps(main)
    def run() -> None:
        # for custom_imports from the user's own folder; last, so that it hides nothing of ours
        sys.path.append(str(Path.cwd()))
        warnings.filterwarnings('ignore', module='mmengine|torch')
        warnings.simplefilter('always', PluginWarning)
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


def _one_line(text: str) -> str:
    if 'Original Traceback' in text:  # an error that a data loading worker sent
        text = re.split(r'(?:InputError|NameNotFound): ', text)[-1]
    return ' '.join(text.split('\n')).strip()
