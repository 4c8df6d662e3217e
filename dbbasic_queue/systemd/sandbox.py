"""What a profile keeps handlers from, in words for the person who installs.

tests/e2e/test_booted_systemd.py tries each of these on a booted machine, under each profile, and
finds refused exactly what is said here.
"""

from __future__ import annotations

from typing import NamedTuple

ISOLATED, NETWORK, COMPAT = "isolated", "network", "compat"
STRICT = (ISOLATED, NETWORK)
ALL = (ISOLATED, NETWORK, COMPAT)


class Refusal(NamedTuple):
    """Something that a profile keeps handlers from.

    Args:
        key: for the test that tries it.
        said: reads well after "handlers and commands cannot ".
        profiles: under which, for units of the system.
        in_user_units: whether a user's own service manager can keep them from it, too.
    """

    key: str
    said: str
    profiles: tuple[str, ...]
    in_user_units: bool = False


REFUSALS = (
    Refusal("network", "reach any network, nor a server on this machine by TCP", (ISOLATED,), True),
    Refusal("write", "write outside of {folders}; [worker].writable adds to it", STRICT),
    Refusal("home", "see anything in /home, /root and /run/user", STRICT),
    Refusal("tmp", "share files in /tmp with other programs: it is their own", STRICT),
    Refusal(
        "code",
        "run programs that make machine code as they run (PyPy, numba, node, java)",
        STRICT,
        True,
    ),
    Refusal("memory", "read /proc/meminfo, /proc/mounts and their like, as psutil does", STRICT),
    Refusal("nice", "change priorities: os.nice, ionice, os.sched_setaffinity", STRICT, True),
    Refusal("interfaces", "list network interfaces (socket.if_nameindex, getifaddrs)", ALL, True),
    Refusal(
        "namespaces", "make namespaces: containers, bubblewrap, a browser's sandbox", ALL, True
    ),
    Refusal("devices", "open devices: disks, serial lines, graphics cards, /dev/fuse", ALL),
    Refusal(
        "setgid",
        "become another user or group: sudo, su, setuid and setgid programs, such as the sendmail "
        "of postfix; send mail by SMTP (smtplib), to localhost too, under network and compat",
        ALL,
        True,
    ),
)


def refusals(profile: str, folders: str, *, for_user: bool) -> list[str]:
    """What handlers, and the programs of commands, cannot do under a profile, a sentence each.

    Args:
        profile: `[worker].hardening`.
        folders: where they can write, for the message.
        for_user: whether the units are those of a user's own service manager.
    """
    return [
        f"[worker].hardening = {profile}: handlers and commands cannot "
        f"{each.said.format(folders=folders)}"
        for each in REFUSALS
        if profile in each.profiles and (each.in_user_units or not for_user)
    ]
