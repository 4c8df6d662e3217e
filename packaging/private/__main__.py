"""`PYTHON -P /usr/lib/dbbasic-queue COMMAND [ARGUMENT ...]` runs a command of the library here.

For the interpreters of applications, which do not find the library by themselves: Python puts the
folder that it runs on its path, and the application's own packages stay where they are. The
commands are those of `python -m dbbasic_queue`.

Entries that version 2.0.0 wrote name a module in place of the command; they go on working.
"""

import runpy
import sys

NAMED_BY_2_0_0 = ("dbbasic_queue.cli", "dbbasic_queue.cli_health", "dbbasic_queue.cli_env")

if sys.argv[1:2] and sys.argv[1] in NAMED_BY_2_0_0:
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    from dbbasic_queue.__main__ import main

    sys.exit(main())
