"""Libraries that only some commands need."""

import importlib
from typing import Any

from aelab.errors import UsageError


def install_command(extra: str) -> str:
    """The command that installs the libraries of an extra, for example `report`."""
    return f".venv/bin/pip install -c constraints.txt -e '.[{extra}]'"


def require(library: str, extra: str) -> Any:
    """Imports an optional library.

    Args:
      library: the module, for example `matplotlib.pyplot`.
      extra: the extra of setup.cfg that installs it.

    Returns:
      The module.

    Raises:
      UsageError: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(library)
    except ImportError:
        package = library.partition(".")[0]
        raise UsageError(
            f"this needs the library {package}: {install_command(extra)}"
        ) from None
