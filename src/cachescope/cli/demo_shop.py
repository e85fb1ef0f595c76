"""A small shop with ordinary caches, some of them set up badly: what ``cachescope demo`` looks at.

Nothing in this file knows of cachescope. Run it alone: ``python demo_shop.py 5``.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
import threading
import time
from collections.abc import Iterator

from cachetools import Cache, LRUCache, TTLCache, cached

N_USERS = 2_000
N_PRODUCTS = 5_000
N_THREADS = 4
CURRENCIES = ("EUR", "USD", "GBP", "JPY", "CHF", "SEK", "PLN", "BRL")
WORDS = (
    "red",
    "blue",
    "warm",
    "light",
    "cheap",
    "new",
    "shoes",
    "jacket",
    "tent",
    "lamp",
    "bike",
    "boots",
    "bag",
    "hat",
)

Row = dict[str, object]


class SessionStore:
    """A home-made cache, of the kind that every second code base has."""

    def __init__(self) -> None:
        self._sessions: dict[str, Row] = {}

    def get(self, session_id: str) -> Row | None:
        return self._sessions.get(session_id)

    def set(self, session_id: str, session: Row) -> None:
        self._sessions[session_id] = session

    def delete(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)


users: TTLCache[int, Row] = TTLCache(maxsize=4_000, ttl=600)
product_pages: LRUCache[int, str] = LRUCache(maxsize=100)
search_results: Cache[str, list[int]] = Cache(maxsize=math.inf)
prices: LRUCache[tuple[int, int], float] = LRUCache(maxsize=500)
rates: LRUCache[str, float] = LRUCache(maxsize=64)
sessions = SessionStore()

# cachetools leaves locking to its users; a lock for each cache is held no longer than a look-up takes.
users_lock, pages_lock, search_lock, prices_lock = (threading.Lock() for _ in range(4))


# -- the database, which is slow ------------------------------------------------------------------------------------


def read_database() -> None:
    """Wait, as one waits for an answer from afar."""
    time.sleep(0.0004)


def load_user(user_id: int) -> Row:
    """Read a user."""
    read_database()
    return {
        "id": user_id,
        "name": f"user {user_id}",
        "email": f"user.{user_id}@example.org",
        "address": f"{user_id} Long Street, Small Town",
        "roles": ["customer"],
    }


def load_product(product_id: int) -> Row:
    """Read a product."""
    read_database()
    return {"id": product_id, "name": f"product {product_id}", "text": f"A fine thing, number {product_id}. " * 60}


# -- the shop -------------------------------------------------------------------------------------------------------


def find_user(user_id: int) -> Row:
    """Give a user; this cache is as it should be."""
    with users_lock:
        user = users.get(user_id)
    if user is None:
        user = load_user(user_id)
        with users_lock:
            users[user_id] = user
    return user


def product_page(product_id: int) -> str:
    """Give the page of a product; there are far more products in demand than pages that fit."""
    with pages_lock:
        page = product_pages.get(product_id)
    if page is None:
        product = load_product(product_id)
        page = f"<h1>{product['name']}</h1><p>{product['text']}</p>"
        with pages_lock:
            product_pages[product_id] = page
    return page


def search(words: str, page: int) -> list[int]:
    """Find products; nothing ever removes a result, and there is no end of what people type."""
    key = f"search:{words}:{page}"
    with search_lock:
        found = search_results.get(key)
    if found is None:
        read_database()
        generator = random.Random(key)
        found = [generator.randrange(N_PRODUCTS) for _ in range(100)]
        with search_lock:
            search_results[key] = found
    return found


def price(product_id: int) -> float:
    """Give today's price; the key holds the time of the request, so it is never asked for again."""
    key = (product_id, time.perf_counter_ns())
    with prices_lock:
        known = prices.get(key)
    if known is None:
        known = 5.0 + product_id % 97
        with prices_lock:
            prices[key] = known
    return known


@cached(rates, lock=threading.Lock())
def exchange_rate(currency: str) -> float:
    """Give what a currency is worth; so is this one."""
    read_database()
    return 0.5 + len(currency) / 7


# -- its visitors ---------------------------------------------------------------------------------------------------


def zipf(generator: random.Random, n: int, skew: float) -> Iterator[int]:
    """Numbers below *n* without end, the lower the more often: how people ask for things."""
    weights = list(itertools.accumulate(1 / rank**skew for rank in range(1, n + 1)))
    while True:
        yield from generator.choices(range(n), cum_weights=weights, k=100)


def visit(seed: int, until: float) -> None:
    """Be one visitor after the other."""
    generator = random.Random(seed)
    wanted_users = zipf(generator, N_USERS, 1.1)
    wanted_products = zipf(generator, N_PRODUCTS, 0.8)
    while time.monotonic() < until:
        session_id = f"session-{generator.getrandbits(64):016x}"
        user = find_user(next(wanted_users))
        sessions.set(session_id, {"user": user["id"], "basket": []})
        for _ in range(generator.randrange(2, 6)):
            session = sessions.get(session_id) or {}
            product_id = next(wanted_products)
            product_page(product_id)
            amount = price(product_id) * exchange_rate(generator.choice(CURRENCIES))
            session["basket"] = [(product_id, amount)]
        words = " ".join(generator.choices(WORDS, k=3))
        for page in range(generator.randrange(1, 3)):
            search(words, page)
            search(words, page)  # back from a product to the results
        if generator.random() < 0.9:  # the others never log out
            sessions.delete(session_id)


def main(seconds: float) -> None:
    """Serve visitors for a while, several at once."""
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=visit, args=(seed, until), daemon=True) for seed in range(N_THREADS)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
