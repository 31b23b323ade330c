"""The cache bounded in bytes."""

from sam2track.cache import LruCache


def test_the_least_recently_used_goes_first():
    cache = LruCache(10, len)
    for key in "abc":
        cache.put(key, key * 4)
    assert cache.get("a") is None
    assert cache.get("b") == "bbbb"
    cache.put("d", "dd")
    cache.put("e", "e")
    assert [cache.get(key) for key in "bcde"] == ["bbbb", None, "dd", "e"]
    assert cache.used == 7


def test_a_value_is_replaced_and_the_newest_always_stays():
    cache = LruCache(10, len)
    cache.put("a", "aaaa")
    cache.put("a", "aa")
    assert cache.used == 2
    cache.put("b", "b" * 99)
    assert (cache.get("a"), cache.get("b"), cache.used) == (None, "b" * 99, 99)
    cache.clear()
    assert (cache.get("b"), cache.used) == (None, 0)
