import threading
import time
import weakref

import pytest

from sam2track.channel import Channel, ClosedError


def in_thread(call):
    """Run ``call`` in a thread; returns a function that joins it and gives its result or ``ClosedError``."""
    outcome = []

    def work():
        try:
            outcome.append(call())
        except ClosedError as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def result():
        thread.join(10)
        return outcome[0]

    return thread, result


def test_items_come_in_order_and_end():
    channel = Channel(3)
    for item in "abc":
        channel.put(item)
    channel.finish()
    assert list(channel) == ["a", "b", "c"]
    assert list(channel) == []


def test_an_error_comes_after_the_items_before_it_and_once():
    channel = Channel(2)
    channel.put("a")
    error = KeyError("boom")
    channel.finish(error)
    assert next(channel) == "a"
    with pytest.raises(KeyError) as raised:
        next(channel)
    assert raised.value is error
    assert list(channel) == []


def test_put_waits_for_room():
    channel = Channel(1)
    channel.put("a")
    thread, _ = in_thread(lambda: channel.put("b"))
    time.sleep(0.05)
    assert thread.is_alive()
    assert next(channel) == "a"
    assert next(channel) == "b"


def test_next_waits_for_an_item():
    channel = Channel(1)
    thread, result = in_thread(lambda: next(channel))
    time.sleep(0.05)
    assert thread.is_alive()
    channel.put("a")
    assert result() == "a"


def test_replace_never_waits_and_tells_what_it_dropped():
    channel = Channel(2)
    assert [channel.replace(item) for item in "abcd"] == [False, False, True, True]
    channel.finish()
    assert list(channel) == ["c", "d"]


@pytest.mark.parametrize("side", ["put", "next"])
def test_close_releases_who_waits(side):
    channel = Channel(1)
    if side == "put":
        channel.put("a")
    thread, result = in_thread(lambda: channel.put("b") if side == "put" else next(channel))
    time.sleep(0.05)
    assert thread.is_alive()
    channel.close()
    assert isinstance(result(), ClosedError)


def test_after_close_nothing_goes_in_or_out():
    channel = Channel(2)
    channel.put("a")
    channel.close()
    channel.close()
    channel.finish(KeyError("too late"))
    for call in (lambda: channel.put("b"), lambda: channel.replace("b"), lambda: next(channel)):
        with pytest.raises(ClosedError):
            call()


def test_close_lets_go_of_what_is_inside():
    class Item:
        pass

    item = Item()
    alive = weakref.ref(item)
    channel = Channel(1)
    channel.put(item)
    del item
    assert alive() is not None
    channel.close()
    assert alive() is None
