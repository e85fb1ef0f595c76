"""A home-made cache in front of a real Redis: what is in this process is profiled, what is in the server is not ours yet."""

from __future__ import annotations

import asyncio

import redis
import redis.asyncio

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument


class NearCache:
    """The usual two tiers: a dict here, Redis behind it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._near: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        if key in self._near:
            return self._near[key]
        value = self._client.get(key)
        if isinstance(value, bytes):
            self._near[key] = value
            return value
        return None

    def set(self, key: str, value: bytes) -> None:
        self._client.set(key, value)
        self._near[key] = value

    def forget(self) -> None:
        self._near.clear()


class AsyncNearCache:
    """The same with asyncio."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._near: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        if key not in self._near:
            value = await self._client.get(key)
            if not isinstance(value, bytes):
                return None
            self._near[key] = value
        return self._near[key]

    async def set(self, key: str, value: bytes) -> None:
        await self._client.set(key, value)
        self._near[key] = value


def test_the_near_tier_is_profiled(redis_url: str) -> None:
    """Sets, hits, misses and bytes of the dict; results are the server's."""
    with (
        CacheMemoryProfiler(ProfilerConfig(level="detailed")) as profiler,
        redis.Redis.from_url(redis_url) as client,
    ):
        cache = instrument(NearCache(client), name="near", operations=None, profiler=profiler)
        for i in range(20):
            cache.set(f"near:user:{i}", bytes(100 + i))
        assert cache.get("near:user:3") == bytes(103)
        assert cache.get("near:nobody") is None
        profile = profiler.get_cache_profile("near")
        assert (profile.current_entries, profile.hits, profile.misses) == (20, 1, 1)
        held = cache._near
        assert profile.net_memory_bytes == sum(key.__sizeof__() + value.__sizeof__() for key, value in held.items())
        assert profile.hotspots[0].key_pattern == "near:user:{int}"
        assert client.get("near:user:19") == bytes(119)


async def test_the_near_tier_is_profiled_under_asyncio(redis_url: str) -> None:
    """Twenty sets at once, each awaited over the wire."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed")) as profiler:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            cache = instrument(AsyncNearCache(client), name="near", profiler=profiler)
            await asyncio.gather(*(cache.set(f"async:user:{i}", bytes(50)) for i in range(20)))
            assert await cache.get("async:user:7") == bytes(50)
            assert await cache.get("async:nobody") is None
            profile = profiler.get_cache_profile("near")
            assert (profile.current_entries, profile.hits, profile.misses) == (20, 1, 1)
