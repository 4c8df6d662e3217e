"""Access control lists, as far as a queue needs them: who else may read (acl(5)).

The kernel keeps them in the extended attribute system.posix_acl_access: a version and then, for
each entry, a tag, the permission bits and a user's or group's number. The tools getfacl and setfacl
need not be installed. A file system without them has no other user who can read.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from typing import Final, NamedTuple

ACCESS: Final = "system.posix_acl_access"
DEFAULT: Final = "system.posix_acl_default"
READ: Final = 4
ENTER: Final = 5  # read and search a folder
NOT_THERE: Final = (errno.ENODATA, errno.ENOTSUP, errno.ENOSYS)

_VERSION: Final = 2
_HEAD: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID: Final = 0xFFFFFFFF


class Named(NamedTuple):
    """A user or group that a list names."""

    tag: int
    id: int


def readers(folder: int) -> list[Named]:
    """Return the users and groups, beside owner and group, that may list and enter an open folder.

    Args:
        folder: a descriptor, also one of `O_PATH`.
    """
    text = _read(folder)
    entries = [_ENTRY.unpack_from(text, at) for at in range(_HEAD.size, len(text), _ENTRY.size)]
    mask = next((bits for tag, bits, _ in entries if tag == _MASK), 7)
    return [
        Named(tag, number)
        for tag, bits, number in entries
        if tag in (_USER, _GROUP) and bits & mask & ENTER == ENTER
    ]


def _read(fd: int) -> bytes:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", ACCESS)  # fgetxattr(2) takes no O_PATH
    except (AttributeError, FileNotFoundError):  # not Linux; no /proc
        return b""
    except OSError as error:
        if error.errno in NOT_THERE:
            return b""
        raise


def set_rights(fd: int, mode: int, named: list[Named], bits: int = READ) -> None:
    """Give an open file these permission bits, and `bits` to the named, whatever list it had.

    Raises `OSError`, but not where the file system has no lists.
    """
    drop(fd, ACCESS)
    os.fchmod(fd, mode)
    if not named:
        return
    group = mode >> 3 & 7
    entries = [
        (_USER_OBJ, mode >> 6 & 7, _NO_ID),
        *((each.tag, bits, each.id) for each in sorted(named) if each.tag == _USER),
        (_GROUP_OBJ, group, _NO_ID),
        *((each.tag, bits, each.id) for each in sorted(named) if each.tag == _GROUP),
        (_MASK, group | bits, _NO_ID),
        (_OTHER, mode & 7, _NO_ID),
    ]
    text = _HEAD.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)
    try:
        os.setxattr(fd, ACCESS, text)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise


def drop(fd: int, kind: str) -> None:
    """Take a list away from an open file or folder, if it has one. Raises `OSError`."""
    with suppress(AttributeError):  # not Linux
        try:
            os.removexattr(fd, kind)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
