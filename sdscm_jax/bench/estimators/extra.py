"""Libraries of the extra ``estimators``."""

from __future__ import annotations

import importlib
from typing import Any

from ...errors import EstimatorError, install


def extra(estimator: str, module: str, package: str) -> Any:
    """Import a module of the extra ``estimators``.

    Raises:
        EstimatorError: it is not installed; says how to install it.

    >>> extra("forest", "no_such_module", "no-such-package")
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.EstimatorError: forest needs no-such-package: pip install '.[estimators]' (in the clone)
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise EstimatorError(f"{estimator} needs {package}: {install('estimators')}") from missing
