"""The ledger of a cache whose insides nobody has described, and how it is made to agree with what the cache holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from cachescope.core import batch as b
from cachescope.core.charging import LARGE_BYTES, LEDGER_LIMIT, Kind, Ledger, SizingBudget, Weigher, simple_bytes
from cachescope.core.open_keys import KeyTransforms, Place, bare, holds, parts_of
from cachescope.core.sizing import Sizer, proxy_bytes
from cachescope.core.state import MISSING, State

if TYPE_CHECKING:
    from cachescope.core.open_frames import Frame

SMALL = 64
"""A ledger of so many entries is looked through at once when an entry left unseen."""
_MOST_FLYING = 32
_NEWEST = 64

Parts = tuple[int, int, int, "type | None", int]
"""A charge: (bytes, proxy or -1, id of the share or 0, the kind's type, id of what is held)."""
_CLAIMED: Parts = (0, -1, 0, None, 0)


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

    # Charges. `charge` and `discharge` serve State's commits; the hooks below use put() and drop().

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
        return self.release(parts, cause) if parts is not None else (self._of_the_rest(), 0)

    def clear(self, cause: int) -> None:
        super().clear(cause)
        self.parted = [0, 0, 0, 0]
        self.lost = self.unmeasured = self.rest = self.rest_bytes = 0
        self.stale = False

    def _of_the_rest(self) -> int:
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
                self.shares[share_id] = [1, size, proxy, [key]]  # type: ignore[list-item]
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
        size = self.sizer.measure_cheap(held)
        if size >= 0:
            if type(held) in (tuple, list) and any(part is key for part in held):
                size -= max(0, simple_bytes(key))  # charged as the key
            return size, -1
        budget = self.budget
        if budget.unlimited or budget.credit_ns > 0:
            start = perf_counter_ns()
            size = self.sizer.measure(held, boundary=self._boundary_of(held) | {id(key)}).size_bytes
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
            deep = self.sizer.measure(value, boundary=self._boundary_of(value)).size_bytes
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


def current_data(state: State, ledger: OpenLedger, obj: Any) -> dict[Any, Any] | None:
    """The dict that holds the entries now; a cache may have put another in its place."""
    data: Any = state.data
    if not ledger.place.names:
        return data  # type: ignore[no-any-return]
    found = ledger.place.find(obj)
    if found is data or found is None:
        return data  # type: ignore[no-any-return]
    ledger.boundary |= {id(found)}
    state.data = found
    return found


# Commits


def put(
    state: State,
    ledger: OpenLedger,
    key: Hashable,
    held: Any,
    given: Any,
    suspicious: bool,
    *,
    replaced: bool = True,
) -> None:
    """An entry is there: charge it, in place of the charge it had, if any.

    Exact when threads overlap: a charge is put in and the former one taken out by plain subscripts in a row, with
    nothing called between, and whoever takes a charge out frees it.
    """
    charges = ledger.charges
    old = charges.get(key)
    kind = type(held)
    size = guess = 0
    parts = _CLAIMED
    if (kind is str or kind is bytes) and type(key) is str and not suspicious and ledger.weigher is None:
        size = held.__sizeof__()
        if size < LARGE_BYTES:  # what most are: no more to it than this
            size += key.__sizeof__()
            parts = (size, -1, 0, None, id(held))
    if parts is _CLAIMED:
        if old is not None and old[4] == id(held):  # the same object, maybe changed: its former charge goes first
            try:
                old = charges[key]
                charges[key] = _CLAIMED
            except KeyError:
                old = None
            if old is not None:
                _replace(state, 0, ledger.release(old, -1)[0])
        data: Any = state.data
        parts, size, guess = ledger.weigh(key, held, given, suspicious, data, resize=old is not None)
    if old is None and len(charges) >= LEDGER_LIMIT and key not in charges:
        _put_unwritten(state, ledger, size)
        return
    while True:
        other = charges.setdefault(key, parts)
        if other is parts:
            state.live_bytes += size
            if ledger.unmeasured:
                ledger.unmeasured -= 1
            else:
                state.sets += 1
            event = b.SET
            break
        try:
            other = charges[key]
            charges[key] = parts
        except KeyError:
            continue
        _replace(state, size, ledger.release(other, -1)[0])
        if replaced:
            state.replacements += 1
        event = b.REPLACED
        break
    live = state.live_bytes
    if live > state.peak_bytes:  # noqa: PLR1730  # a call fewer
        state.peak_bytes = live
    state.note(event, key, size + guess)


def _put_unwritten(state: State, ledger: OpenLedger, size: int) -> None:
    """The ledger is full: the entry counts, and its bytes go to those that are shared out as entries leave."""
    if state.data is not None and state.entries >= dict.__len__(state.data):  # type: ignore[arg-type]
        freed = ledger._of_the_rest()
        state.replacements += 1
        _replace(state, size, freed)
    else:
        state.sets += 1
        state.live_bytes += size
    ledger.rest += 1
    ledger.rest_bytes += size
    _peak(state)
    if state.record is not None:
        state.record.notes.add(f"beyond {LEDGER_LIMIT:,} entries, the bytes of those that leave are estimated")


def _replace(state: State, size: int, freed: int) -> None:
    grown = size - freed
    state.resized_bytes += grown
    state.live_bytes += grown


def _peak(state: State) -> None:
    live = state.live_bytes
    state.peak_bytes = max(state.peak_bytes, live)


def drop(state: State, ledger: OpenLedger, key: Hashable, cause: int, *, now: bool = False) -> bool:
    """An entry is not there any more: free its charge, if it has one.

    Args:
        state: The cache object's.
        ledger: Its ledger.
        key: The entry's key.
        cause: Why it left, unless it is one of those that were counted as gone before.
        now: It left just now, so it is none of those.
    """
    try:
        parts = ledger.charges.pop(key, None)
    except TypeError:
        return False
    if parts is None:
        return False
    counted = False
    if ledger.lost and not now:
        for column in (b.EVICTED, b.EXPIRED, b.DELETED, b.CLEARED):
            if ledger.parted[column] > 0:
                ledger.parted[column] -= 1
                ledger.lost -= 1
                cause, counted = column, True
                break
    size, guess = ledger.release(parts, cause)
    _account(state, cause, 0 if counted else 1, size)
    state.note(cause, key, size + guess)
    return True


def _account(state: State, cause: int, entries: int, size: int) -> None:
    if cause == b.EVICTED:
        state.evictions += entries
        state.evicted_bytes += size
    elif cause == b.EXPIRED:
        state.expirations += entries
        state.expired_bytes += size
    elif cause == b.CLEARED:
        state.cleared += entries
        state.cleared_bytes += size
    else:
        state.deletes += entries
        state.deleted_bytes += size
    state.live_bytes -= size


def settle_drift(
    state: State,
    ledger: OpenLedger,
    data: dict[Any, Any],
    cause: int,
    ends: tuple[Any, ...] = (),
    inside: Frame | None = None,
) -> None:
    """Make the number of entries agree with the mapping's length, and find which ones came or left.

    Args:
        state: The cache object's.
        ledger: Its ledger.
        data: What holds the entries.
        cause: Why an entry that left unseen has left.
        ends: Keys that were at the ends of the mapping before the call.
        inside: The operation in which they left.
    """
    flying: set[Any] = set()
    leaving: set[Any] = set()
    expected = state.entries
    if ledger.flying:
        for frame in list(ledger.flying.values()):
            pending = frame.pending_keys()
            flying |= pending
            if frame.may_take_out(inside):
                leaving |= pending
            if len(flying) > _MOST_FLYING:
                return  # found when they have landed
        for key in flying:
            charged = key in ledger.charges
            if dict.__contains__(data, key):
                expected += not charged
            elif charged and key in leaving:
                expected -= 1
    missing = expected - dict.__len__(data)
    if missing == 0:
        return
    charges = ledger.charges
    if missing > 0:
        found_at_ends = False
        for key in (*ends, *_some(charges, 2)):
            if missing > 0 and key in charges and not dict.__contains__(data, key) and key not in leaving:
                missing -= drop(state, ledger, key, cause, now=True)
                found_at_ends = True
        if missing > 0 and (len(charges) <= SMALL or missing * 8 >= len(charges)):
            for key in _some(charges, None):
                if missing > 0 and not dict.__contains__(data, key) and key not in leaving:
                    missing -= drop(state, ledger, key, cause, now=True)
        if missing > 0 and ledger.rest > 0:
            for _ in range(min(missing, ledger.rest)):
                _account(state, cause, 1, ledger._of_the_rest())
                missing -= 1
        if missing > 0:
            ledger.parted[cause] += missing
            ledger.lost += missing
            _account(state, cause, missing, 0)
        if found_at_ends:
            ledger.ends_useful = 8
        elif ledger.ends_useful > 0:
            ledger.ends_useful -= 1
        return
    extra = -missing
    if ledger.rest:
        newest: Iterable[Any] = ()
    elif len(charges) <= SMALL or extra * 8 >= len(charges):
        newest = _some(dict.keys(data), None)
    else:
        newest = _some(newest_first(data), min(_NEWEST, 2 * extra))
    for key in newest:
        if extra > 0 and key not in charges and key not in flying:
            value = dict.get(data, key, MISSING)
            if value is not MISSING:
                put(state, ledger, key, value, MISSING, False)
                extra -= 1
    if extra > 0:
        state.sets += extra
        ledger.unmeasured += extra


def _some(keys: Iterable[Any], most: int | None) -> list[Any]:
    """The first keys; none when another thread changes the mapping meanwhile."""
    try:
        return list(islice(keys, most))
    except RuntimeError:
        return []


def newest_first(data: dict[Any, Any]) -> Iterator[Any]:
    """A mapping's keys, the last one first."""
    return OrderedDict.__reversed__(data) if isinstance(data, OrderedDict) else dict.__reversed__(data)
