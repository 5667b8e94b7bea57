"""Processes that find each other by an address: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun and many clusters set them.

Process 0 listens at the address. Each other one connects to it and says where it listens itself; when all have come, process 0 tells them
of each other, and they connect in pairs. Both ends of a connection prove that they know the key of the group, before anything of it is read
as a Python object.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from anynet.distributed.communicator import CommunicatorGroup
from anynet.distributed.group import DistributedError
from anynet.distributed.sockets import NAMES, Communicator, Mesh, read

__all__ = ["TCPGroup"]

MAGIC: Final = b"anynet group 1\n"
PORT: Final = 29500
"""Where process 0 listens by default, as PyTorch's does."""
_LENGTH: Final = struct.Struct("!I")
_LONGEST: Final = 1 << 20
"""Bytes of what is said before all have come."""
_HELLO: Final = 20.0
"""Seconds in which the other end of a connection proves the key."""


class _RefusedError(Exception):
    """The other end of a connection is not of this group."""


class TCPGroup(CommunicatorGroup):
    """Processes that TCP connections join, each to each; no MPI is needed.

    `rank`, `size`: the number of this process, from 0, and how many there are. `address`, `port`: where process 0 listens, the same in all;
    a loopback address is reached from this host alone. `timeout`: seconds after which a process that waits for the others gives up;
    `connect`: the same while they find each other. `grace`: seconds that a process which has failed waits for what the others say. `key`: a
    text that all have and nobody else knows; without one, whoever reaches the port while the processes find each other may be taken for one
    of them. Nothing is encrypted.

    Sums are added up in the order of the processes: x = ((x_0 + x_1) + x_2) + …, whatever the size of an array, and go through the host.
    Arrays of up to 64 KiB are sent to all; of larger ones each process adds up a part: 2 · (n - 1)/n · bytes each way for n processes.

    Errors: ValueError and TypeError for wrong numbers; `DistributedError` where the processes do not find each other, with those that are
    missing, and in every process where one of them fails, is killed, ends its program while the others wait for it, or does not come in
    time.

    >>> import anynet as an
    >>> an.distributed.TCPGroup(0, 1).all_reduce(an.asarray([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """

    def __init__(
        self,
        rank: int,
        size: int,
        address: str = "127.0.0.1",
        port: int = PORT,
        *,
        timeout: float = 1800.0,
        connect: float = 300.0,
        grace: float = 5.0,
        key: str = "",
    ) -> None:
        self._seconds(timeout=timeout, connect=connect, grace=grace)
        for name, number, least, end in (
            ("size", size, 1, 2**16),
            ("rank", rank, 0, size),
            ("port", port, 1, 2**16),
        ):
            if isinstance(number, bool) or not isinstance(number, int):
                msg = f"TCPGroup: {name} must be an integer, got {number!r}"
                raise TypeError(msg)
            if not least <= number < end:
                msg = f"TCPGroup: {name} must be {least} to {end - 1}, got {number}"
                raise ValueError(msg)
        for name, text in (("address", address), ("key", key)):
            if not isinstance(text, str):
                msg = f"TCPGroup: {name} must be a text, got {type(text).__name__}"
                raise TypeError(msg)
        meeting = _Meeting(rank, size, (address, port), key.encode(), time.monotonic() + connect, connect)
        super().__init__(NAMES, Communicator(Mesh(rank, meeting.connections())), timeout=timeout, grace=grace)

    def _close(self) -> None:
        for comm in (
            self._world,
            self._control,
            self._messages,
            *(lane.comm for lane in self._lanes.values()),
        ):
            if comm is not None:
                comm.close()
        self._world.mesh.close()

    @classmethod
    def of_environment(cls, given: Mapping[str, str] = os.environ, **limits: Any) -> TCPGroup:
        """The group that the variables RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and ANYNET_KEY describe; `limits` are `timeout`,
        `connect` and `grace`."""
        port = _number(given, "MASTER_PORT", str(PORT))
        if given.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun itself listens there
            port += 1
        own = _number(given, "RANK"), _number(given, "WORLD_SIZE"), given["MASTER_ADDR"], port
        return cls(*own, key=given.get("ANYNET_KEY", ""), **limits)


def _number(given: Mapping[str, str], name: str, default: str = "") -> int:
    text = given.get(name, default)
    if not text.isdecimal():
        msg = f"the environment variable {name} must be a number, got {text!r}"
        raise DistributedError(msg)
    return int(text)


class _LostError(Exception):
    """The other end of a connection has closed it, or says nothing."""


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_gone(connection: socket.socket) -> bool:
    """Whether the other end has closed a connection on which it has nothing to say yet."""
    connection.setblocking(False)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


class _Meeting:
    """How the connections of one process are made: `until` is when it gives up, after `limit` seconds."""

    def __init__(
        self, rank: int, size: int, address: tuple[str, int], key: bytes, until: float, limit: float
    ) -> None:
        self.rank, self.size, self.address, self.key, self.until, self.limit = (
            rank,
            size,
            address,
            key,
            until,
            limit,
        )
        self.found: dict[int, socket.socket] = {}
        self.refused = ""

    def connections(self) -> dict[int, socket.socket]:
        """A connection to each other process."""
        if self.size == 1:
            return {}
        try:
            if self.rank == 0:
                self._be_first()
            else:
                self._join()
        except BaseException:
            for connection in self.found.values():
                connection.close()
            raise
        return self.found

    def _left(self) -> float:
        return max(0.01, self.until - time.monotonic())

    def _be_first(self) -> None:
        places: dict[int, Any] = {}
        missing = list(range(1, self.size))
        with _listen(*self.address) as server:
            while missing:
                places |= self._accept(server, missing)
                missing = [
                    rank for rank, connection in self.found.items() if _is_gone(connection)
                ]  # their launcher may restart them
                for rank in missing:
                    self.found.pop(rank).close()
        for rank, connection in self.found.items():
            connection.settimeout(_HELLO)
            try:
                _write(connection, {"places": places})
            except OSError as error:
                self._give_up(
                    f"process {rank} of {self.size} has gone while the processes found each other: {error}"
                )

    def _join(self) -> None:
        while True:
            first = self._reach()
            near = first.getsockname()[0]
            # another host cannot reach a loopback address, which this host may have for its own name
            everywhere = _is_loopback(near) and not _is_loopback(self.address[0])
            with contextlib.closing(
                socket.create_server(("" if everywhere else near, 0), family=first.family)
            ) as server:
                try:
                    self.found[0] = self._introduce(first, "process 0", (near, server.getsockname()[1]))
                except _LostError as error:  # it, or this process, was stopped for a while
                    if time.monotonic() >= self.until:
                        raise DistributedError(str(error)) from error
                    time.sleep(0.05)
                    continue
                self._pair(self._wait(self.found[0])["places"], server)
                return

    def _pair(self, places: dict[str, Any], server: socket.socket) -> None:
        """Connect to the processes before this one, which listen already, and take the connections of those after it."""
        where = self.found[0].getpeername()[0]
        for other in range(1, self.rank):
            host, port = places[str(other)]
            if _is_loopback(host):  # of the host of process 0, which this one may know by another address
                host = where
            try:
                connection = socket.create_connection((host, port), timeout=self._left())
                self.found[other] = self._introduce(connection, f"process {other}", None)
            except (OSError, _LostError) as error:
                msg = f"process {self.rank} of {self.size} cannot reach process {other}, which listened at {host}:{port}: {error}"
                raise DistributedError(msg) from error
        self._accept(server, list(range(self.rank + 1, self.size)))

    def _reach(self) -> socket.socket:
        """A connection to process 0, as soon as it listens."""
        host, port = self.address
        while True:
            try:
                connection = socket.create_connection((host, port), timeout=min(_HELLO, self._left()))
                if connection.getsockname() != connection.getpeername():
                    return connection
                connection.close()  # the system has given it the port itself, at which process 0 could then not listen
                msg = "nobody listens there"
                raise ConnectionRefusedError(msg)
            except OSError as error:
                if time.monotonic() >= self.until:
                    msg = (
                        f"process {self.rank} of {self.size} has tried for {self.limit:g} s to reach process 0 at {host}:{port}: {error}; "
                        "the address is that of MASTER_ADDR and MASTER_PORT"
                    )
                    raise DistributedError(msg) from error
                time.sleep(0.05)

    def _wait(self, connection: socket.socket) -> dict[str, Any]:
        """What process 0 says when all have come."""
        connection.settimeout(self._left() + _HELLO)
        try:
            told = _read(connection)
        except OSError as error:
            msg = f"process {self.rank} of {self.size} has waited for process 0, which has gone: {error}"
            raise DistributedError(msg) from error
        if "error" in told:
            raise DistributedError(told["error"])
        return told

    def _introduce(self, connection: socket.socket, whom: str, place: Any) -> socket.socket:
        """Say who this is, and prove it. Errors: `_LostError` where it may be tried again."""
        connection.settimeout(_HELLO + self._left())
        said = json.dumps(
            {"rank": self.rank, "size": self.size, "place": place, "order": sys.byteorder}
        ).encode()
        try:
            if bytes(read(connection, len(MAGIC))) != MAGIC:
                msg = "it is no process of anynet"
                raise _RefusedError(msg)
            theirs, own = bytes(read(connection, 32)), secrets.token_bytes(32)
            connection.sendall(own + self._proof(b"I", theirs, own, said) + _LENGTH.pack(len(said)) + said)
            if not hmac.compare_digest(bytes(read(connection, 32)), self._proof(b"you", theirs, own, said)):
                msg = "it has another key; have all the same ANYNET_KEY?"
                raise _RefusedError(msg)
        except (OSError, _RefusedError) as error:
            connection.close()
            msg = f"process {self.rank} of {self.size} was not taken by {whom} at {self.address[0]}:{self.address[1]}: {error}"
            raise (_LostError if isinstance(error, OSError) else DistributedError)(msg) from error
        return connection

    def _proof(self, side: bytes, theirs: bytes, own: bytes, said: bytes) -> bytes:
        return hmac.digest(self.key, side + theirs + own + said, hashlib.sha256)

    def _check(self, connection: socket.socket) -> dict[str, Any]:
        """Who is at the other end, when it has proved that it is of this group."""
        connection.settimeout(min(_HELLO, self._left()))
        nonce = secrets.token_bytes(32)
        connection.sendall(MAGIC + nonce)
        theirs, proof = bytes(read(connection, 32)), bytes(read(connection, 32))
        (length,) = _LENGTH.unpack(read(connection, _LENGTH.size))
        if length > _LONGEST:
            msg = "a connection that is of no process of anynet"
            raise _RefusedError(msg)
        said = bytes(read(connection, length))
        if not hmac.compare_digest(proof, self._proof(b"I", nonce, theirs, said)):
            with contextlib.suppress(OSError):
                connection.sendall(bytes(32))  # no proof: it sees why
            msg = "a connection with another key"
            raise _RefusedError(msg)
        connection.sendall(self._proof(b"you", nonce, theirs, said))
        try:
            found: dict[str, Any] = json.loads(said)
            _ = found["rank"] + found["size"], found["place"], found["order"]
        except (ValueError, TypeError, KeyError) as error:
            msg = "a process of another version of anynet"
            raise _RefusedError(msg) from error
        return found

    def _accept(self, server: socket.socket, missing: list[int]) -> dict[int, Any]:
        """Take the connections of these processes; where each listens."""
        places: dict[int, Any] = {}
        while missing:
            server.settimeout(self._left())
            try:
                connection, _ = server.accept()
            except TimeoutError:
                self._give_up(
                    f"process {self.rank} of {self.size} has waited {self.limit:g} s for process{'es' * (len(missing) > 1)} "
                    f"{', '.join(map(str, missing))}"
                    + (f" ({self.refused} was refused)" if self.refused else "")
                )
            try:
                who = self._check(connection)
            except (OSError, _RefusedError) as error:
                connection.close()
                self.refused = (
                    str(error) if isinstance(error, _RefusedError) else "a connection that said nothing"
                )
                continue
            rank, size = who["rank"], who["size"]
            if who["order"] != sys.byteorder:
                self.found[-1] = connection
                self._give_up(
                    f"the host of process {rank} has another byte order than that of process {self.rank} of {self.size}"
                )
            if rank in self.found and _is_gone(self.found[rank]):  # its launcher has started it again
                self.found.pop(rank).close()
                missing.append(rank)
            if size != self.size or rank not in missing:
                self.found[-1] = connection
                what = f"{size} processes" if size != self.size else f"two processes with the number {rank}"
                self._give_up(
                    f"there are {what} beside process {self.rank} of {self.size}; see RANK and WORLD_SIZE"
                )
            self.found[rank], places[rank] = connection, who["place"]
            missing.remove(rank)
        return places

    def _give_up(self, why: str) -> None:
        for connection in self.found.values():
            with contextlib.suppress(OSError):
                connection.settimeout(1.0)
                _write(connection, {"error": why})
        raise DistributedError(why)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address of this host; where that is not written as a loopback address, at all of them: others may
    know this host by another one, and it may itself have a loopback address for its name."""
    try:
        if not _is_loopback(host):
            if socket.has_dualstack_ipv6():
                return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            return socket.create_server(("", port))
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, _, _, _, at in places[:-1]:
            with contextlib.suppress(OSError):  # localhost may be ::1 on a host without IPv6
                return socket.create_server((str(at[0]), port), family=family)
        return socket.create_server((str(places[-1][4][0]), port), family=places[-1][0])
    except OSError as error:
        msg = f"process 0 cannot listen at {host}:{port}: {error}; another MASTER_PORT may be free"
        raise DistributedError(msg) from error


def _write(connection: socket.socket, value: Any) -> None:
    text = json.dumps(value).encode()
    connection.sendall(_LENGTH.pack(len(text)) + text)


def _read(connection: socket.socket) -> dict[str, Any]:
    (length,) = _LENGTH.unpack(read(connection, _LENGTH.size))
    found: dict[str, Any] = json.loads(bytes(read(connection, min(length, _LONGEST))))
    return found
