"""Work on every structure of a dataset in several processes, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

from adatom.data.structure_dataset import StructureDataset

Result = TypeVar("Result")

#: Results per process that may wait: memory does not grow with the number of structures.
_WAITING = 4

#: What a process of the pool works on.
_TASK: list[Any] = []


def map_rows(
    function: Callable[[StructureDataset, Sequence[int]], Result],
    systems: StructureDataset,
    *,
    workers: int = 0,
    chunk: int = 32,
) -> Iterator[Result]:
    """Call ``function`` with parts of a dataset.

    Args:
        function: Gets the dataset and some of its rows; can be pickled.
        systems: The dataset.
        workers: Other processes, which are forked where the system does so; 0 uses none.
        chunk: Rows in one call.

    Yields:
        The results, in the order of the rows.
    """
    total = len(systems)
    chunks = (range(start, min(start + chunk, total)) for start in range(0, total, chunk))
    if workers == 0:
        for rows in chunks:
            yield function(systems, rows)
        return
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(workers, initializer=_begin, initargs=(systems, function)) as pool:
        try:
            for rows in chunks:
                waiting.append(pool.submit(_call, rows))
                if len(waiting) > _WAITING * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(systems: StructureDataset, function: Callable[..., Any]) -> None:
    import torch

    torch.set_num_threads(1)  # of this process only, which has one core to itself
    _TASK[:] = [systems, function]


def _call(rows: Sequence[int]) -> Any:
    systems, function = _TASK
    return function(systems, rows)
