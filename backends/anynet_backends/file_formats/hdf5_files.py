"""Files of HDF5 as Keras writes them, read without HDF5's library and mapped into memory.

HDF5's own library is a large program in C that follows what a file says: links to other files, filters that are loaded from disk, sizes
that no file has. Of a file of weights only this is needed: groups, arrays that lie in one piece, and attributes. All else is an error.
Whatever a file says, no more is read than it has: every number comes from a slice of it, no place is walked through twice, and arrays
are views of the file.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html (superblocks 0 to 3, object headers 1 and 2).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Group", "HDF5Error", "open_group"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = (1 << 64) - 1
_DEPTH = 32
_STEPS = 1 << 22
_NAME = 1 << 12
_DAMAGE = (struct.error, LookupError, ValueError, TypeError, ArithmeticError)
_DATASPACE, _LINKS, _DATATYPE, _EXTERNAL, _LINK, _LAYOUT, _FILTERS, _ATTRIBUTE, _MORE, _TABLE, _ATTRIBUTES = (
    1, 2, 3, 7, 6, 8, 11, 12, 16, 17, 21,
)  # fmt: skip


class HDF5Error(ValueError):
    """A file that is not HDF5, is damaged, or has what no file of weights needs."""


class _Type(NamedTuple):
    """A type of numbers or texts: one of NumPy, or None for texts of any length."""

    dtype: Any
    size: int
    text: bool


class Group(NamedTuple):
    """A group: arrays and groups by name, in the order of their names, and attributes."""

    arrays: dict[str, Any]
    groups: dict[str, Group]
    attributes: dict[str, Any]
    of_arrays: dict[str, dict[str, Any]]

    def at(self, path: str) -> Any:
        """The array at a path with slashes; KeyError where there is none."""
        *folders, name = path.split("/")
        group = self
        for folder in folders:
            group = group.groups[folder]
        return group.arrays[name]


def open_group(data: bytes | mmap.mmap | memoryview) -> Group:
    """What a whole file holds, given its bytes; HDF5Error for what is damaged, or no file of weights."""
    try:
        return _File(memoryview(data)).root()
    except HDF5Error:
        raise
    except _DAMAGE as error:
        raise HDF5Error(f"it is damaged ({type(error).__name__}: {error!s:.100})") from None


class _File:
    def __init__(self, data: memoryview) -> None:
        self.data, self.seen, self.steps = data, set[int](), 0
        self.heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self.texts = len(data)  # bytes of texts that may yet be read
        if bytes(data[:8]) != _SIGNATURE:
            raise HDF5Error("it is no file of HDF5")

    def take(self, at: int, size: int) -> memoryview:
        if at < 0 or size < 0 or at + size > len(self.data):
            raise HDF5Error(f"{size} bytes at {at} lie outside of its {len(self.data)}")
        return self.data[at : at + size]

    def unpack(self, form: str, at: int) -> tuple[Any, ...]:
        form = "<" + form
        return struct.unpack(form, self.take(at, struct.calcsize(form)))

    def once(self, at: int) -> int:
        """A place that is gone through once: no circles, and no more work than the file has bytes."""
        if at in self.seen:
            raise HDF5Error("it goes in a circle")
        self.seen.add(at)
        return at

    def step(self) -> None:
        """One of the steps that may be taken in all."""
        self.steps += 1
        if self.steps > _STEPS:
            raise HDF5Error(f"it has more than {_STEPS:,} objects and names")

    def signed(self, at: int, name: bytes) -> None:
        if bytes(self.take(at, 4)) != name:
            raise HDF5Error(f"there is no {name.decode()} at {at}")

    def root(self) -> Group:
        version = self.data[8]
        if version > 3:
            raise HDF5Error(f"version {version} of its superblock is unknown")
        sizes = bytes(self.take(13 if version < 2 else 9, 2))
        begin = 24 if version == 0 else 28 if version == 1 else 12
        (base,) = self.unpack("Q", begin)
        if sizes != b"\x08\x08" or base:
            raise HDF5Error("places in it must be numbers of 8 bytes from its beginning")
        (place,) = self.unpack("Q", begin + (40 if version < 2 else 24))
        made = self.object(place, 0)
        if not isinstance(made, Group):
            raise HDF5Error("its beginning is no group")
        return made

    # ----- objects -----

    def messages(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """Of an object's header: kind, flags, place and size of each message."""
        self.once(at)
        if bytes(self.take(at, 4)) == b"OHDR":
            flags = self.data[at + 5]
            here = at + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
            width = 1 << (flags & 3)
            size = int.from_bytes(self.take(here, width), "little")
            blocks, head = [(here + width, size)], 6 if flags & 4 else 4
        else:
            if self.data[at] != 1:
                raise HDF5Error(f"there is no object at {at}")
            blocks, head = [(at + 16, self.unpack("I", at + 8)[0])], 8
        for begin, size in blocks:  # grows while it is read
            self.take(begin, size)
            end = begin + size
            while begin + head <= end:
                if head == 8:
                    kind, length, flag = self.unpack("HHB", begin)
                else:
                    kind, length, flag = self.unpack("BHB", begin)
                begin += head
                if begin + length > end:
                    raise HDF5Error("a message is longer than its block")
                self.step()
                if kind == _MORE:
                    place, extent = self.unpack("QQ", begin)
                    if head != 8:
                        self.signed(place, b"OCHK")
                        place, extent = place + 4, extent - 8
                    blocks.append((self.once(place), extent))
                elif kind:
                    yield kind, flag, begin, length
                begin += length

    def object(self, at: int, depth: int) -> Any:
        """A group; or an array and its attributes."""
        self.step()
        if depth > _DEPTH:
            raise HDF5Error(f"its groups must be nested less than {_DEPTH} deep")
        found: dict[int, int] = {}
        links: dict[str, int] = {}
        attributes: dict[str, Any] = {}
        for kind, flags, place, length in self.messages(at):
            if kind in (_EXTERNAL, _FILTERS):
                raise HDF5Error(
                    "its arrays must lie in it as they are, not compressed and not in other files"
                )
            if kind in (_LINKS, _ATTRIBUTES) and self.dense(kind, place):
                raise HDF5Error("a group in it is stored in a newer form than Keras writes")
            if kind == _LINK:
                links.update(self.link(place))
            elif kind == _ATTRIBUTE:
                attributes.update(self.attribute(place, length))
            elif kind == _TABLE:
                links.update(self.table(place))
            elif kind in (_DATASPACE, _DATATYPE, _LAYOUT):
                if flags & 2:
                    raise HDF5Error("its types must stand where they are used")
                found[kind] = place
        if _LAYOUT in found:
            return self.array(found), attributes
        group = Group({}, {}, attributes, {})
        for name, place in links.items():
            made = self.object(place, depth + 1)
            if isinstance(made, Group):
                group.groups[name] = made
            else:
                group.arrays[name], group.of_arrays[name] = made
        return group

    def dense(self, kind: int, at: int) -> bool:
        """Whether links or attributes lie in a heap of their own."""
        flags = self.data[at + 1]
        skip = (8 if kind == _LINKS else 2) if flags & 1 else 0
        return bool(self.unpack("Q", at + 2 + skip)[0] != _NOWHERE)

    def link(self, at: int) -> dict[str, int]:
        flags = self.data[at + 1]
        at += 2
        if flags & 8:
            if self.data[at]:
                raise HDF5Error("it has links to other places or files")
            at += 1
        at += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
        width = 1 << (flags & 3)
        length = int.from_bytes(self.take(at, width), "little")
        name = bytes(self.take(at + width, length)).decode()
        return {name: self.unpack("Q", at + width + length)[0]}

    def table(self, at: int) -> dict[str, int]:
        """The links of a group in the older form: a tree of nodes, and a heap of names."""
        tree, heap = self.unpack("QQ", at)
        self.signed(heap, b"HEAP")
        size, _, begin = self.unpack("QQQ", heap + 8)
        names = self.take(begin, size)
        found: dict[str, int] = {}
        nodes = [tree]
        while nodes:
            node = self.once(nodes.pop())
            if bytes(self.take(node, 4)) == b"TREE":
                (count,) = self.unpack("H", node + 6)
                nodes += [self.unpack("Q", node + 32 + 16 * i)[0] for i in range(count)][::-1]
                continue
            self.signed(node, b"SNOD")
            for i in range(self.unpack("H", node + 6)[0]):
                name, place, cached = self.unpack("QQI", node + 8 + 40 * i)
                if cached == 2:
                    raise HDF5Error("it has links to other places or files")
                text = bytes(names[name : name + _NAME]).partition(b"\0")[0].decode()
                self.step()
                if not text or len(text) >= _NAME or text in found:
                    raise HDF5Error(f"a name in a group is there twice, empty or too long: {text!r:.80}")
                found[text] = place
        return found

    # ----- values -----

    def shape(self, at: int) -> tuple[int, ...]:
        version, rank, _, kind = self.unpack("4B", at)
        if version == 2 and kind == 2:  # nothing
            return (0,)
        if version not in (1, 2) or rank > 32:
            raise HDF5Error(f"an array of {rank} axes")
        return self.unpack(f"{rank}Q", at + (8 if version == 1 else 4))

    def type(self, at: int) -> _Type:
        first, bits, _, _, size = self.unpack("4BI", at)
        kind, order = first & 15, ">" if bits & 1 else "<"
        if kind == 8:  # an enumeration: what it is stored as, which for h5py's truth values is a byte
            return self.type(at + 8)
        if kind in (0, 1) and size in (1, 2, 4, 8) and (kind == 0 or size > 1):
            letter = "f" if kind == 1 else "i" if bits & 8 else "u"
            dtype = np.dtype(f"{order}{letter}{size}")
            if (kind == 1 and self.unpack("HHBB", at + 8)[1:4] != _FLOATS[size]) or self.unpack(
                "HH", at + 8
            ) != (0, 8 * size):
                raise HDF5Error("its numbers must be those of IEEE 754, or integers")
            return _Type(dtype, size, False)
        if kind == 3 and 0 < size < 1 << 20:
            return _Type(np.dtype(f"S{size}"), size, True)
        if kind == 5 and size == 2:  # h5py's form of bfloat16
            return _Type(np.dtype("<u2"), size, False)
        if kind == 9 and bits & 15 == 1 and size == 16:
            return _Type(None, size, True)
        raise HDF5Error(f"numbers or texts of an unknown kind ({kind}, of {size} bytes)")

    def array(self, found: dict[int, int]) -> Any:
        shape, of, at = self.shape(found[_DATASPACE]), self.type(found[_DATATYPE]), found[_LAYOUT]
        version, kind = self.data[at], self.data[at + 1]
        if version not in (3, 4) or kind > 1 or of.dtype is None:
            raise HDF5Error("its arrays must be numbers that lie in one piece, not compressed")
        if kind == 0:
            begin, held = at + 4, self.unpack("H", at + 2)[0]
        else:
            begin, held = self.unpack("QQ", at + 2)
        size = math.prod(shape) * of.size
        if begin == _NOWHERE and size:
            raise HDF5Error(f"an array of shape {shape} was never written")
        if size > held:
            raise HDF5Error(f"an array of shape {shape} takes {size} bytes, got {held}")
        return np.frombuffer(self.take(begin, size) if size else b"", of.dtype).reshape(shape)

    def attribute(self, at: int, length: int) -> dict[str, Any]:
        end = at + length
        version, flags, *sizes = self.unpack("BBHHH", at)
        at += 8 if version < 3 else 9
        if version not in (1, 2, 3) or (version > 1 and flags & 3):
            raise HDF5Error("an attribute of an unknown form")
        places = []
        for size in sizes:
            places.append(at)
            at += -(-size // 8) * 8 if version == 1 else size
        name = bytes(self.take(places[0], sizes[0])).partition(b"\0")[0].decode()
        of, shape = self.type(places[1]), self.shape(places[2])
        count = math.prod(shape)
        if count * of.size > end - at:
            raise HDF5Error("an attribute is longer than its place")
        data = self.take(at, count * of.size)
        if of.dtype is None:
            values: Any = [self.text(at + 16 * i) for i in range(count)]
        elif of.text:
            values = (
                [bytes(v).decode(errors="replace") for v in np.frombuffer(data, of.dtype)] if count else []
            )
        else:
            values = np.frombuffer(data, of.dtype).tolist() if count else []
        return {name: values[0] if shape == () else values}

    def text(self, at: int) -> str:
        """A text of any length, in a heap."""
        length, heap, index = self.unpack("IQI", at)
        if not length:
            return ""
        place, size = self.heap(heap).get(index, (0, 0))
        self.texts -= length
        if length > size or self.texts < 0:
            raise HDF5Error(f"a text of {length} bytes is missing at {heap}")
        return bytes(self.take(place, length)).decode(errors="replace")

    def heap(self, at: int) -> dict[int, tuple[int, int]]:
        """Where the texts of a heap lie, by number."""
        if at not in self.heaps:
            self.signed(at, b"GCOL")
            found, here, end = dict[int, tuple[int, int]](), at + 16, at + self.unpack("Q", at + 8)[0]
            while here + 16 <= end:
                self.step()
                number, size = self.unpack("H6xQ", here)
                if not number:
                    break
                found[number] = here + 16, size
                here += 16 + -(-size // 8) * 8
            self.heaps[at] = found
        return self.heaps[at]


_FLOATS = {2: (16, 10, 5), 4: (32, 23, 8), 8: (64, 52, 11)}
"""Of a number of so many bytes: bits, where the exponent begins, and how many bits that has."""
