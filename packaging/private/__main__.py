"""`PYTHON /usr/lib/dbbasic-queue MODULE [ARGUMENT ...]` runs a module of the library beside this.

For the interpreters of applications, which do not find the library by themselves: Python puts the
folder that it runs on its path, and the application's own packages stay where they are.
"""

import runpy
import sys

if len(sys.argv) < 2:
    sys.exit("usage: python /usr/lib/dbbasic-queue MODULE [ARGUMENT ...]")
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
