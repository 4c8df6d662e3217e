"""`make mutants`: small faults, put into a copy of the code one at a time, that a test must notice.

Theory of operation
-------------------
A test that passes shows little until it is known to fail. Each mutant is a fault as a tired
programmer makes it: where it goes (a file of the library, and a text in it), what stands there
instead, the promise that is broken then, and the test that has to notice. The faults of a wing are
in the module of its name.

Two copies of the checkout are made, one for each of two processes. Nothing in a copy is ever
installed: `PYTHONPATH` leads to it, in the tests and in what they start. A mutant is written, its
test is run, and the file is put back. It is noticed if the test fails (or does not end in time),
and it is a fault of the list if the text is not there, is there twice, or the test cannot be run.
Before all that the tests have to pass in an untouched copy.

`--find` looks for the test: it runs the tests of the wing until one fails, and names it.
"""
