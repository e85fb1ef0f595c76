"""The ledger of a cache whose insides nobody has described: every entry's charge, and the operations in progress."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from cachescope.core import batch as b
from cachescope.core.charging import LARGE_BYTES, LEDGER_LIMIT, Kind, Ledger, SizingBudget, Weigher, simple_bytes
from cachescope.core.open_commits import current_data, drop, put, settle_drift
from cachescope.core.open_keys import KeyTransforms, Place, bare, holds, parts_of
from cachescope.core.sizing import Sizer, proxy_bytes
from cachescope.core.state import MISSING, State

if TYPE_CHECKING:
    from cachescope.core.open_frames import Frame

Parts = tuple[int, int, int, "type | None", int]
"""A charge: (bytes, proxy or -1, id of the share or 0, the kind's type, id of what is held)."""


class OpenLedger(Ledger):
    """The charges of every entry of a cache object, and what is known of where it keeps them.

    Args:
        sizer: Measures deep sizes.
        budget: Time for dear ones.
        weigher: The user's own, or None.
        places: Where the entries may be, the likeliest first.
        knows_ttl: The class has to do with expiry, so that what goes away by itself has expired.
    """

    __slots__ = (
        "ends_useful",
        "flying",
        "idle",
        "knows_ttl",
        "lost",
        "parted",
        "place",
        "places",
        "rest",
        "rest_bytes",
        "stale",
        "sure",
        "transforms",
        "unmeasured",
    )

    charges: OrderedDict[Hashable, Parts]  # type: ignore[assignment]  # every entry, in the order of their sets

    def __init__(
        self,
        sizer: Sizer,
        budget: SizingBudget,
        weigher: Weigher | None,
        places: tuple[Place, ...] = (),
        knows_ttl: bool = False,
    ) -> None:
        super().__init__(sizer, budget, weigher)
        self.charges = OrderedDict()
        self.places, self.place = places, places[0] if places else Place()
        self.sure = len(places) == 0
        self.knows_ttl = knows_ttl
        self.flying: dict[int, Frame] = {}
        self.idle: list[Frame] = []
        """A frame to use again for plain look-ups, unless one is in progress."""
        self.parted = [0, 0, 0, 0]
        """Entries counted as gone, by cause, whose keys are not known yet."""
        self.lost = 0
        self.unmeasured = 0
        """Entries counted as set whose keys are not known yet."""
        self.rest = self.rest_bytes = 0
        """Entries that came when the ledger was full, and an estimate of their bytes."""
        self.stale = False
        """An entry was replaced, and nobody knows which."""
        self.ends_useful = 8
        self.transforms = KeyTransforms()

    @property
    def empty(self) -> bool:
        """Never: every entry is written down."""
        return False

    @property
    def written(self) -> dict[Hashable, Parts]:
        """The charges."""
        return self.charges

    # Charges. `charge` and `discharge` serve State's commits; open hooks use open_commits.

    def charge(self, key: Hashable, value: object, suspicious: bool, *, resize: bool = False) -> tuple[int, int]:
        parts, size, guess = self.weigh(key, value, value, suspicious, None, census=True, resize=resize)
        if len(self.charges) < LEDGER_LIMIT:
            self.charges[key] = parts
        else:
            self.rest += 1
            self.rest_bytes += size
        return size, guess

    def discharge(self, key: Hashable, value: object, cause: int) -> tuple[int, int]:
        try:
            parts = self.charges.pop(key, None)
        except TypeError:
            parts = None
        return self.release(parts, cause) if parts is not None else (self.of_the_rest(), 0)

    def clear(self, cause: int) -> None:
        super().clear(cause)
        self.parted = [0, 0, 0, 0]
        self.lost = self.unmeasured = self.rest = self.rest_bytes = 0
        self.stale = False

    def of_the_rest(self) -> int:
        """Take one entry of those that came when the ledger was full; gives its estimated bytes."""
        if self.rest <= 0:
            return 0
        share = self.rest_bytes // self.rest
        self.rest -= 1
        self.rest_bytes -= share
        return share

    def weigh(
        self,
        key: Hashable,
        held: Any,
        given: Any,
        suspicious: bool,
        data: dict[Any, Any] | None,
        *,
        census: bool = False,
        resize: bool = False,
    ) -> tuple[Parts, int, int]:
        """Measure an entry: ``(its charge, bytes, guess)``."""
        if self.weigher is not None:
            weight = self._weigh(key, given if given is not MISSING and holds(held, given) else held)
            if weight is not None:
                return (weight, -1, 0, None, id(held)), weight, 0
        key_bytes = simple_bytes(key)
        if key_bytes < 0:
            key_bytes = self.sizer.measure(key, boundary=self.boundary).size_bytes
        size, proxy = simple_bytes(held), -1
        if size >= 0:
            cls = None
        else:
            cls = type(held)
            size, proxy = self._deep(key, held)
        share_id = 0
        if (suspicious or size >= LARGE_BYTES or proxy >= LARGE_BYTES) and (data is not None or census):
            share: Any = self.shares.get(id(held))
            if share is None:
                share_id = id(held)
                self.shares[share_id] = [1, size, proxy, [key]]  # type: ignore[list-item]  # a record of its own
            elif data is None or any(other != key and dict.get(data, other) is held for other in share[3][-4:]):
                share_id = id(held)
                share[0] += 1
                share[3].append(key)
                size, proxy = 0, -1
            # else a value that has gone unseen lay at the same address
        guess = 0
        if cls is not None:
            kind = self._kind(held)
            kind.entries += 1
            if proxy < 0:
                kind.exact_bytes += size
            else:
                guess = kind.guess(proxy)
                if resize:
                    kind.resized_proxy += proxy
                else:
                    kind.in_proxy += proxy
        own = key_bytes if share_id else key_bytes + size
        return (own, -1 if share_id else proxy, share_id, cls, id(held)), key_bytes + size, guess

    def release(self, parts: Parts, cause: int) -> tuple[int, int]:
        """Free a charge: ``(bytes, guess)``."""
        own, proxy, share_id, cls, _ = parts
        if not share_id and cls is None:
            return own, 0
        size = 0
        if share_id:
            share = self.shares.get(share_id)
            if share is not None:
                share[0] -= 1
                if share[0] <= 0:
                    self.shares.pop(share_id, None)
                    size, proxy = share[1], share[2]
        guess = 0
        if cls is not None:
            kind = self.kinds.get(cls)
            if kind is None:
                kind = self.kinds.setdefault(cls, Kind())
            kind.entries -= 1
            if proxy < 0:
                kind.exact_bytes = max(0, kind.exact_bytes - (size if share_id else own))
            else:
                guess = kind.guess(proxy)
                if cause < 0:
                    kind.resized_proxy -= proxy
                else:
                    kind.out_proxy[cause] += proxy
        return own + size, guess

    def _deep(self, key: Hashable, held: Any) -> tuple[int, int]:
        size = self._cheap(held)
        if size >= 0:
            if type(held) in (tuple, list) and any(part is key for part in held):
                size -= max(0, simple_bytes(key))  # charged as the key
            return size, -1
        budget = self.budget
        if budget.unlimited or budget.credit_ns > 0:
            start = perf_counter_ns()
            size = self._measured(held, self._boundary_of(held) | {id(key)})
            self._kind(held).observe(max(1, proxy_bytes(held)), size)
            budget.spend(perf_counter_ns() - start)
            return size, -1
        return 0, max(1, proxy_bytes(held))

    def _boundary_of(self, held: Any) -> frozenset[int]:
        """What sizing must not enter: an entry that is a link of a chain ends at its neighbours."""
        cls = type(held)
        if issubclass(cls, (tuple, list, dict)):
            return self.boundary
        neighbours = [id(part) for part in parts_of(held) if type(part) is cls]
        return self.boundary.union(neighbours) if neighbours else self.boundary

    def observe(self, value: object) -> int:
        start = perf_counter_ns()
        if simple_bytes(value) < 0 and self.sizer.measure_cheap(value) < 0:
            deep = self._measured(value, self._boundary_of(value))
            self._kind(value).observe(max(1, proxy_bytes(value)), deep)
        return perf_counter_ns() - start

    # Keys

    def has(self, key: Any) -> bool:
        """Whether an entry of that (inner) key is charged."""
        try:
            return key in self.charges
        except Exception:
            return False

    def resolve(self, data: dict[Any, Any] | None, key: Any) -> Any:
        """The key under which the cache keeps what its callers call *key*."""
        if data is None:
            return key
        try:
            if dict.__contains__(data, key):
                return key
        except Exception:  # unhashable as it is; the cache may turn it into something else
            pass
        return self.transforms.inner(key, data) if self.transforms.known else key

    def is_flying(self, key: Any) -> bool:
        """Whether an operation on *key* is in progress."""
        return any(key in frame.pending_keys() for frame in list(self.flying.values()))

    def is_leaving(self, key: Any, inside: Frame | None) -> bool:
        """Whether an operation in progress may have taken *key* out, and will say why."""
        return any(key in frame.pending_keys() for frame in list(self.flying.values()) if frame.may_take_out(inside))

    # Reconciliation, off the call path

    def reconcile(self, state: State) -> None:
        """Make entries and bytes agree with what the cache holds; quick when they do."""
        target = state.target()
        if target is None or state.record is None:
            return
        data = current_data(state, self, bare(target))
        if data is None:
            return
        if not self.flying:
            settle_drift(state, self, data, self.external_cause())
        if not (self.lost or self.unmeasured or self.stale or state.entries != dict.__len__(data)):
            return
        for _ in range(3):
            try:
                known, held = list(self.charges), list(dict.keys(data))
                break
            except RuntimeError:  # it changed while we looked
                continue
        else:
            return
        stale, self.stale = self.stale, False
        gone = [key for key in known if not dict.__contains__(data, key)]
        fresh = [key for key in held if key not in self.charges] if not self.rest else []
        for key in gone:
            if not self.is_flying(key) and not dict.__contains__(data, key):
                drop(state, self, key, self.external_cause())
        for key in fresh:
            value = dict.get(data, key, MISSING)
            if value is not MISSING and not self.is_flying(key):
                put(state, self, key, value, MISSING, False)
        if stale:
            for key in known:
                parts = self.charges.get(key)
                value = dict.get(data, key, MISSING)
                if parts is not None and value is not MISSING and self._differs(key, value, parts):
                    put(state, self, key, value, MISSING, False, replaced=False)
        if not self.flying:
            self.parted = [0, 0, 0, 0]
            self.lost = self.unmeasured = 0
            settle_drift(state, self, data, self.external_cause())

    def _differs(self, key: Any, held: Any, parts: Parts) -> bool:
        """Whether something else is held than was charged; an address may have been used again."""
        if parts[4] != id(held):
            return True
        size = simple_bytes(held)
        if size < 0 or parts[3] is not None:
            return False
        share = self.shares.get(parts[2])
        return share[1] != size if share is not None else 0 <= simple_bytes(key) != parts[0] - size

    def external_cause(self) -> int:
        """Why an entry goes outside every call that we see: it expired, if the class knows of such a thing."""
        return b.EXPIRED if self.knows_ttl else b.DELETED
