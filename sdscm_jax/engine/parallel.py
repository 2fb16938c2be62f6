"""Independent tasks over processes or machines, their results as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..checks import count, one_of
from ..errors import install

Result = TypeVar("Result")


def parse_backend(value: Any) -> str:
    """A backend of joblib, one of its own or one that was registered with it.

    Raises:
        SDSCMError: there is none of that name; the message has the nearest that there is.
        ImportError: joblib is missing.
    """
    parallel = _joblib().parallel
    return one_of(value, (*parallel.BACKENDS, *parallel.EXTERNAL_BACKENDS), "joblib backend")


def spread(
    function: Callable[..., Result], tasks: Sequence[tuple], jobs: int = 1, backend: str | None = None
) -> Iterator[tuple[int, Result]]:
    """Call a function for each task; numbers of tasks with their results, in the order in which they end.

    Args:
        function: can be pickled, unless ``jobs`` is 1 and ``backend`` None.
        tasks: arguments of each call.
        jobs: how many at a time.
        backend: of joblib: ``"loky"`` (processes, the default), ``"dask"`` (a ``dask.distributed`` client
            must be there), …; extra ``parallel``.

    Raises:
        SDSCMError: ``jobs`` is no number of at least 1, or there is no such backend.
        ImportError: ``jobs`` or ``backend`` without the extra.

    >>> list(spread(max, [(1, 2), (4, 3)]))
    [(0, 2), (1, 4)]
    """
    jobs = count(jobs, "jobs", most=1 << 16)
    if jobs == 1 and backend is None:
        return ((i, function(*task)) for i, task in enumerate(tasks))
    joblib, backend = _joblib(), "loky" if backend is None else parse_backend(backend)
    # Dask has no generators in joblib; it gives everything at the end.
    lazily = "generator_unordered" if backend == "loky" else "list"
    with joblib.parallel_config(backend=backend, n_jobs=jobs):
        parallel = joblib.Parallel(return_as=lazily)
        return iter(parallel(joblib.delayed(_numbered)(function, i, task) for i, task in enumerate(tasks)))


def _joblib() -> Any:
    try:
        import joblib
    except ImportError as error:
        raise ImportError(f"several jobs need joblib: {install('parallel')}") from error
    return joblib


def _numbered(function: Callable[..., Result], i: int, task: tuple) -> tuple[int, Result]:
    # loky takes a worker that grows by 300 MB for a leaking one and replaces it; ours keep what they compiled.
    if (executor := sys.modules.get("joblib.externals.loky.process_executor")) is not None:
        executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize  # type: ignore[attr-defined]
    return i, function(*task)
