"""Run a command with the variables of an `environment_file`: what cron lacks and systemd has.

Not a command of its own on `$PATH`: the entries that `dbq-install-cron` writes run it as
`python -m dbbasic_queue env FILE COMMAND [ARGUMENT ...]`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..config.environment_file import read_environment_file

USAGE = """\
usage: python -m dbbasic_queue env FILE COMMAND [ARGUMENT ...]

Run COMMAND with the variables that FILE sets, by the rules of systemd's EnvironmentFile=
(systemd.exec(5)): FILE is not a shell script, nothing in it is expanded or run.
They win over variables that are set already.

example:
  python -m dbbasic_queue env /etc/myapp/env python -m dbbasic_queue work

exit status: COMMAND's own; 2 if FILE cannot be read or COMMAND cannot be started"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Become the command; only ever returns by `SystemExit`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["--help"], ["-h"]):
        print(USAGE)
        sys.exit(0)
    if len(words) < 2:
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    file, *command = words
    try:
        variables = read_environment_file(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        sys.exit(_refuse(f"environment_file {file}: {reason}"))
    try:
        os.execvpe(command[0], command, {**os.environ, **variables})
    except OSError as error:
        sys.exit(_refuse(f"{command[0]}: {error.strerror}"))


def _refuse(message: str) -> int:
    print(f"dbq: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
