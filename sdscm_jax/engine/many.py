"""``simulate_many``: a data set for each of many models, spread over processes or machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import as_path, count, function, items
from ..dsl.noise.streams import as_key
from ..errors import SDSCMError
from ..models.language_model import LanguageModel, load_lm
from .parallel import parse_backend, spread
from .simulate import simulate


def simulate_many(
    models: Sequence[Callable],
    key: Any,
    n: int,
    *args: Any,
    out: str | Path,
    jobs: int = 1,
    backend: str | None = None,
    **options: Any,
) -> list[Path]:
    """Simulate a data set from each model, in a directory of its own.

    Data set i has the key ``fold_in(key, i)``, whatever runs it: its bytes do not depend on ``jobs`` and
    ``backend``. What is finished is not computed again; see ``simulate``.

    Args:
        models: model functions that can be pickled (such as members of a family).
        key: PRNG key, or an int seed.
        n: units of each data set.
        *args: arguments of the models. A path stands for the language model in that directory, which every
            process loads once; a ``LanguageModel`` is sent to each.
        out: directory; data set i goes to ``out/00000`` and so on.
        jobs: how many at a time.
        backend: see ``spread``.
        **options: further arguments of ``simulate``, such as ``worlds`` or ``chunk``.

    Returns:
        the directories.

    Raises:
        ImportError: ``jobs`` or ``backend`` without the extra.
        SDSCMError: there are no models; what ``simulate`` raises.

    >>> import tempfile, sdscm_jax as sd
    >>> from sdscm_jax.families import Family
    >>> family = Family.from_vignette(sd.vignettes.confounder)
    >>> [d.name for d in simulate_many([family.member(1)], 0, 3, sd.load_lm(), out=tempfile.mkdtemp())]
    ['00000']
    """
    models = items(models, "models")
    for model in models:
        function(model)
    if not models:
        raise SDSCMError("there are no models to simulate from")
    n, jobs = count(n, "n, the number of units,"), count(jobs, "jobs")
    backend = None if backend is None else parse_backend(backend)
    keys = as_key(key)
    directory = as_path(out, "out")
    width = max(5, len(str(len(models) - 1)))
    places = [directory / f"{i:0{width}}" for i in range(len(models))]
    tasks = [
        (model, np.asarray(jax.random.key_data(jax.random.fold_in(keys, i))), n, args, place, options)
        for i, (model, place) in enumerate(zip(models, places, strict=True))
    ]
    for _ in spread(_one, tasks, jobs, backend):
        pass
    return places


def _one(model: Callable, key: np.ndarray, n: int, args: tuple, out: Path, options: dict[str, Any]) -> None:
    loaded = [loaded_lm(str(x)) if isinstance(x, (str, Path)) else x for x in args]
    simulate(model, jnp.asarray(key), n, *loaded, out=out, progress=False, **options)


@lru_cache(maxsize=2)
def loaded_lm(source: str | None) -> LanguageModel:
    """The language model of a source, loaded once in this process."""
    return load_lm(source)
