"""Makes the next thing while the last one is used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_END: Any = object()


def one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items, of which a thread makes the next one while one is used.

    So the network and the entropy coder, which has but one thread, work side by side.
    What `items` raises is raised in the place of the item.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = pool.submit(next, items, _END)
            yield item
