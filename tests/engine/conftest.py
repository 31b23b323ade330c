import pytest

from tests.engine.fakes import engine_threads


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert engine_threads() == []


@pytest.fixture(params=[True, False], ids=["overlapped", "in turn"])
def overlap(request):
    return request.param
