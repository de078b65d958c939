import os
import random
import threading
import time

import numpy as np
import pytest
import torch

from adatom.core.errors import ConfigError
from adatom.core.precision import default_dtype, deterministic, seeded, tf32, torch_threads


def state():
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        torch.random.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
    )


@pytest.mark.parametrize(
    "scope",
    [
        lambda: default_dtype(torch.float64),
        deterministic,
        lambda: seeded(7),
        lambda: tf32(True),
        lambda: torch_threads(torch.get_num_threads() + 1),
    ],
)
def test_scope_puts_everything_back_even_after_an_error(scope):
    before = state()
    with scope():
        assert state() != before
    assert state() == before
    with pytest.raises(ZeroDivisionError), scope():
        raise ZeroDivisionError
    assert state() == before


def test_seeded_draws_the_same_numbers():
    def draw():
        with seeded(3):
            return torch.rand(2).tolist(), random.random(), np.random.rand()  # noqa: NPY002

    first = draw()
    torch.rand(5)
    assert draw() == first


def test_scopes_do_what_they_say():
    with default_dtype(torch.float64), deterministic(), torch_threads(1), tf32(True):
        assert torch.zeros(1).dtype == torch.float64
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 1
        assert torch.get_float32_matmul_precision() == "high"
        with tf32(False):
            assert torch.get_float32_matmul_precision() == "highest"


def test_wrong_values_are_refused():
    with pytest.raises(ConfigError, match="int64"), default_dtype(torch.int64):
        pass
    with pytest.raises(ConfigError, match="at least 1"), torch_threads(0):
        pass


SHARED = {
    "dtype": (default_dtype, torch.get_default_dtype, torch.float64, torch.float16),
    "tf32": (tf32, torch.get_float32_matmul_precision, True, False),
}


def read(get, scope, value):
    """Return what a scope sets."""
    with scope(value):
        return get()


@pytest.mark.parametrize("name", SHARED)
def test_threads_that_want_different_values_take_turns(name):
    scope, get, one, other = SHARED[name]
    before, expected = get(), {value: read(get, scope, value) for value in (one, other)}
    start, found = threading.Barrier(8), []

    def work(value):
        start.wait(5)
        for _ in range(20):
            with scope(value):
                time.sleep(0.0005)
                with scope(value):
                    found.append(get() == expected[value])

    threads = [threading.Thread(target=work, args=(value,)) for value in (one, other) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 160
    assert all(found)
    assert get() == before


@pytest.mark.parametrize("name", SHARED)
def test_threads_that_want_the_same_value_do_not_wait(name):
    scope, get, one, _ = SHARED[name]
    before, together = get(), threading.Barrier(3)

    def work():
        with scope(one):
            together.wait(5)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken
    assert get() == before
