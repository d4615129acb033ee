"""Libraries that only some commands need."""

import importlib
from typing import Any

from aelab.errors import UsageError


def install_command(extra: str) -> str:
    """The command that installs the libraries of an extra, for example `report`."""
    return f".venv/bin/pip install -c constraints.txt -e '.[{extra}]'"


def require(library: str, extra: str) -> Any:
    """Imports a module of an optional library, for example `matplotlib.pyplot`.

    Raises:
      UsageError: it is not installed. The message has the command that installs the
        `extra` of setup.cfg.
    """
    try:
        return importlib.import_module(library)
    except ImportError:
        package = library.partition(".")[0]
        raise UsageError(
            f"this needs the library {package}: {install_command(extra)}"
        ) from None
