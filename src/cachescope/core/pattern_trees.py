"""The patterns of many keys: which words at which place are one ``{word}``, and which fields one ``{token}``.

A tree for each skeleton, a level for each hole, an id at the end of each path. A node with too many different words
under it becomes ``{word}`` and its subtrees are joined. A skeleton with a sealed field is folded into the one that it
may be a case of (:mod:`~cachescope.core.key_readings`), as soon as that is there. When too many skeletons differ only
within fields such as ``ab_{int}-x``, they have one *form*, and those fields become ``{token}``.

A node or form once generalised stays so, and joining is a union: what it all comes to depends on the set of keys and
not on their order. Merging is therefore commutative and associative, while no limit is met.
"""

from __future__ import annotations

import re
from typing import Any, Final, Self

from cachescope.core.key_masks import HOLE, WORD
from cachescope.core.key_readings import form_of, is_certain, of_any_length, place_of_hole, readings
from cachescope.core.key_sketch import fill
from cachescope.core.pattern_rows import brief, number, pattern_row

OVERFLOW: Final = "overflow"
_MOST_CREATED: Final = 64  # times the limit: literal patterns ever made, most of them folded since

# Words at one place before it becomes {word}: in the first place of a key, elsewhere; then skeletons of one form.
# A key's first word is mostly a namespace: a service with 30 of them should read 30 lines. A table that is full goes
# one step down before it lets keys overflow.
_STEPS: Final = ((64, 24, 32, 12), (32, 12, 24, 8), (16, 6, 12, 5), (8, 3, 6, 3))

_BEHIND: Final = re.compile(r"(?<!\0)\{")  # not the number of k1= or v2:


class PatternTrees:
    """Patterns by number: placed, folded into each other, merged, written down. Not thread-safe.

    Args:
        limit: Most patterns kept apart.

    Attributes:
        generalisations: How often patterns were folded; when it has risen, ids held elsewhere are to be resolved again.

    Raises:
        ValueError: *limit* is not positive.
    """

    __slots__ = (
        "_coarse",
        "_created",
        "_forms",
        "_groups",
        "_live",
        "_magnets",
        "_parents",
        "_step",
        "_texts",
        "_trees",
        "generalisations",
        "limit",
    )

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit of patterns is {limit}, expected at least 1")
        self.limit = limit
        self.generalisations = 0
        self._step = 0
        self._live = 0
        self._created = 0
        self._parents = [0]  # union-find; a root is its own parent
        self._texts = [OVERFLOW]  # of roots
        # skeleton -> nested dicts, one level a hole, down to the id
        self._trees: dict[str, Any] = {}
        self._forms: dict[str, set[str]] = {}  # form -> its skeletons, if they differ from it
        self._magnets: set[str] = set()  # skeletons, and those without lengths, that groups may turn out to be
        self._groups: dict[str, set[str]] = {}  # what skeletons with groups may be -> those
        self._coarse: set[str] = set()  # forms that stand for all their skeletons

    def __len__(self) -> int:
        """How many patterns live, overflow not counted."""
        return self._live

    def resolve(self, pattern_id: int) -> int:
        """Return the id that a pattern's figures belong to now.

        Raises:
            IndexError: No such id was given out.
        """
        if pattern_id < 0:
            raise IndexError(f"pattern id {pattern_id}: this table gave out ids 0 to {len(self._parents) - 1}")
        parents = self._parents
        root = pattern_id
        while parents[root] != root:
            root = parents[root]
        while parents[pattern_id] != root:
            parents[pattern_id], pattern_id = root, parents[pattern_id]
        return root

    def text(self, pattern_id: int) -> str:
        """Return the text of the pattern that *pattern_id* resolves to."""
        return self._texts[self.resolve(pattern_id)]

    def merge(self, other: PatternTrees) -> dict[int, int]:
        """Learn another table's patterns.

        Args:
            other: A table of another process or part; it is left as it is.

        Returns:
            For each id of *other*, folded ones included, the id here.
        """
        if other is self:
            return {i: self.resolve(i) for i in range(len(self._parents))}
        if other._step > self._step:
            self._tighten(other._step)
        for form in sorted(other._coarse - self._coarse):
            self._coarsen(form)
        roots = {0: 0}
        leaves = [(leaf, skeleton, path) for skeleton, tree in other._trees.items() for path, leaf in _leaves(tree)]
        for leaf, skeleton, path in sorted(leaves):
            roots[leaf] = self._place(skeleton, list(path))
        return {i: self.resolve(roots[other.resolve(i)]) for i in range(len(other._parents))}

    def to_dict(self) -> dict[str, object]:
        """Return the table as JSON-able data; ids stay what they are."""
        return {
            "version": 1,
            "limit": self.limit,
            "step": self._step,
            "created": self._created,
            "generalisations": self.generalisations,
            "coarse": sorted(self._coarse),
            "ids": [self.resolve(i) for i in range(len(self._parents))],
            "patterns": [
                [leaf, skeleton, list(path)] for skeleton, tree in self._trees.items() for path, leaf in _leaves(tree)
            ],
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Return the table that ``to_dict`` described.

        Raises:
            ValueError: *data* is nothing that ``to_dict`` returns.
        """
        if not isinstance(data, dict) or data.get("version") != 1:
            raise ValueError(f"key patterns: expected a dict of version 1, got {brief(data)}")
        table = cls(number(data, "limit", 1, 1_000_000))
        table._step = number(data, "step", 0, len(_STEPS) - 1)
        table._created = number(data, "created", 0, 1 << 40)
        table.generalisations = number(data, "generalisations", 0, 1 << 40)
        ids, patterns, coarse = data.get("ids"), data.get("patterns"), data.get("coarse")
        if not isinstance(coarse, list) or not all(type(form) is str for form in coarse):
            raise ValueError(f"key patterns: 'coarse' should list texts, got {brief(coarse)}")
        table._coarse = set(coarse)
        if not isinstance(ids, list) or not ids or not all(type(i) is int and 0 <= i < len(ids) for i in ids):
            raise ValueError(f"key patterns: 'ids' should list ids below its length, got {brief(ids)}")
        if ids[0] != 0 or any(ids[i] != i for i in ids):
            raise ValueError("key patterns: 'ids' should list resolved ids, 0 (overflow) first")
        if not isinstance(patterns, list) or len(patterns) > table.limit:
            raise ValueError(f"key patterns: 'patterns' should list at most {table.limit}, got {brief(patterns)}")
        table._parents = list(ids)
        table._texts = [""] * len(ids)
        table._texts[0] = OVERFLOW
        seen = {0}
        for row in patterns:
            leaf, skeleton, path = pattern_row(row)
            if not 0 < leaf < len(ids) or ids[leaf] != leaf or leaf in seen:
                raise ValueError(f"key patterns: id {leaf} of {brief(row)} is unknown, folded, or there twice")
            seen.add(leaf)
            table._texts[leaf] = fill(skeleton, path)
            if not _grow(table._trees, skeleton, path, leaf):
                raise ValueError(f"key patterns: {brief(row)} contradicts a pattern before it")
            form = form_of(skeleton, path)[0]
            if form != skeleton:
                if form in table._coarse:
                    raise ValueError(f"key patterns: {brief(row)} contradicts the coarse form {brief(form)}")
                table._forms.setdefault(form, set()).add(skeleton)
        if seen != set(ids):
            raise ValueError("key patterns: 'ids' names patterns that are not there")
        table._live = len(patterns)
        for skeleton in table._trees:
            table._settle(skeleton)
            table._note(skeleton)
        return table

    def _place(self, skeleton: str, words: list[str]) -> int:
        """Walk down a tree, making what is missing. {word} among *words* comes from a merge and collapses the place."""
        form = skeleton
        while True:
            path = list(words)
            node: Any = self._trees.get(skeleton)
            if node is None:
                form, kept = form_of(skeleton, words)
                if form in self._coarse and form != skeleton:
                    return self._place(form, kept)
                room = self._live < self.limit
            else:
                room = True
                for depth, word in enumerate(words):
                    if word == WORD and WORD not in node:
                        self._settle(skeleton, node)
                        return self._place(skeleton, words)
                    if WORD in node:
                        path[depth] = WORD
                    below = node.get(path[depth])
                    if below is None:
                        # a last place that is about to collapse gives room rather than takes it
                        full = depth == len(words) - 1 and len(node) >= self._most(
                            skeleton, depth, behind_words=WORD in path[:depth]
                        )
                        room = full or self._live < self.limit
                        node = None
                        break
                    node = below
                if node is not None:
                    return node  # type: ignore[no-any-return]  # nodes are lists of anything
            for candidate, left in readings(skeleton, path):
                if candidate in self._magnets:
                    return self._place(candidate, left)
            if room:
                break
            if not self._tighten(self._step + 1):
                return 0
        if self._created >= _MOST_CREATED * self.limit:
            return 0
        self._created += 1
        self._live += 1
        new = skeleton not in self._trees
        found = self._new(fill(skeleton, path))
        _grow(self._trees, skeleton, path, found)
        if node is None and form != skeleton:
            self._forms.setdefault(form, set()).add(skeleton)
            if len(self._forms[form]) > _STEPS[self._step][2]:
                self._coarsen(form)
                return self.resolve(found)
        self._settle(skeleton)
        if new:
            self._attract(skeleton)
        return self.resolve(found)

    def _new(self, text: str) -> int:
        self._parents.append(len(self._parents))
        self._texts.append(text)
        return len(self._parents) - 1

    def _most(self, skeleton: str, depth: int, *, behind_words: bool) -> int:
        first, other, _, behind = _STEPS[self._step]
        if depth == 0 and skeleton != HOLE and skeleton.lstrip("b('")[:1] == HOLE:
            return first
        return behind if behind_words or _BEHIND.search(skeleton[: place_of_hole(skeleton, depth)]) else other

    def _settle(self, skeleton: str, forced: Any = None) -> None:
        """Collapse each place of one tree that has too many words, and *forced*; fold the ids."""
        tree = self._trees[skeleton]
        if not self._collapse(skeleton, tree, 0, forced):
            return
        self._folded()
        for path, leaf in list(_leaves(tree)):
            text = fill(skeleton, path)
            if self._texts[leaf] != text:
                self._parents[leaf] = found = self._new(text)
                self._texts[leaf] = ""
                node = tree
                for word in path[:-1]:
                    node = node[word]
                node[path[-1]] = found

    def _folded(self) -> None:
        self.generalisations += 1

    def _coarsen(self, form: str) -> None:
        """Fold all skeletons of one form into it."""
        self._coarse.add(form)
        trees = {s: self._trees.pop(s) for s in sorted(self._forms.pop(form, ())) if s in self._trees}
        leaves = [(skeleton, path, leaf) for skeleton, tree in trees.items() for path, leaf in _leaves(tree)]
        for skeleton in trees:
            self._forget(skeleton)
        self._live -= len(leaves)
        for skeleton, path, leaf in leaves:
            self._parents[leaf] = self._place(*form_of(skeleton, list(path)))
            self._texts[leaf] = ""
        self._folded()

    def _attract(self, skeleton: str) -> None:
        """A skeleton is new: take in those that may be it."""
        for magnet in self._note(skeleton):
            for taken in sorted(self._groups.get(magnet, ())):
                self._absorb(taken)

    def _note(self, skeleton: str) -> list[str]:
        """Note what a skeleton may be, and, if it has a certain field, that others may be it; give what is new of that."""
        for candidate, _ in readings(skeleton, [""] * skeleton.count(HOLE)):
            self._groups.setdefault(candidate, set()).add(skeleton)
        if not is_certain(skeleton):
            return []
        new = [m for m in dict.fromkeys((skeleton, of_any_length(skeleton))) if m not in self._magnets]
        self._magnets.update(new)
        return new

    def _absorb(self, skeleton: str) -> None:
        """Fold what of a tree may be a magnet into it."""
        tree = self._trees.pop(skeleton, None)
        taken = []
        for path, leaf in _leaves(tree) if tree is not None else ():
            reading = next((r for r in readings(skeleton, list(path)) if r[0] in self._magnets), None)
            if reading is None:
                _grow(self._trees, skeleton, list(path), leaf)
            else:
                taken.append((leaf, reading))
        if skeleton not in self._trees:
            self._forget(skeleton)
        self._live -= len(taken)
        for leaf, (magnet, left) in taken:
            self._parents[leaf] = self._place(magnet, left)
            self._texts[leaf] = ""
        if taken:
            self._folded()

    def _forget(self, skeleton: str) -> None:
        """A tree is gone: nothing is to find it any more."""
        for candidate, _ in readings(skeleton, [""] * skeleton.count(HOLE)):
            self._groups.get(candidate, set()).discard(skeleton)

    def _collapse(self, skeleton: str, node: Any, depth: int, forced: Any, *, behind_words: bool = False) -> bool:
        if type(node) is int:
            return False
        collapsed = False
        if WORD not in node and (node is forced or len(node) > self._most(skeleton, depth, behind_words=behind_words)):
            children = list(node.values())
            node.clear()
            node[WORD] = children[0]
            for child in children[1:]:
                node[WORD] = self._join(node[WORD], child)
            collapsed = True
        behind_words |= WORD in node
        for child in node.values():
            collapsed |= self._collapse(skeleton, child, depth + 1, forced, behind_words=behind_words)
        return collapsed

    def _join(self, left: Any, right: Any) -> Any:
        """Union of two subtrees; ids in one place become one."""
        if type(left) is int:
            self._parents[right] = left
            self._texts[right] = ""
            self._live -= 1
            return left
        for word, child in right.items():
            left[word] = self._join(left[word], child) if word in left else child
        if WORD in left and len(left) > 1:
            joined = left.pop(WORD)
            for child in left.values():
                joined = self._join(joined, child)
            left.clear()
            left[WORD] = joined
        return left

    def _tighten(self, step: int) -> bool:
        """Be content with fewer words at a place from now on."""
        if step >= len(_STEPS):
            return False
        self._step = step
        for form in [form for form, skeletons in self._forms.items() if len(skeletons) > _STEPS[step][2]]:
            self._coarsen(form)
        for skeleton in self._trees:
            self._settle(skeleton)
        return True


def _leaves(node: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], int]]:
    """Paths and ids below a node."""
    if type(node) is int:
        return [(path, node)]
    return [leaf for word, child in node.items() for leaf in _leaves(child, (*path, word))]


def _grow(trees: dict[str, Any], skeleton: str, path: list[str], leaf: int) -> bool:
    """Put an id at the end of its path. False if something is there, or a {word} would stand beside words."""
    *nodes, last = [skeleton, *path]
    node: Any = trees
    for depth, word in enumerate([*nodes, last]):
        if type(node) is not dict or (depth and node and word not in node and (word == WORD or WORD in node)):
            return False
        if depth < len(nodes):
            node = node.setdefault(word, {})
    if last in node:
        return False
    node[last] = leaf
    return True
