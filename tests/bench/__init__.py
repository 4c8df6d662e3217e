"""The benchmark: this queue beside its peers, in one run, interleaved.

python -m tests.bench             all of it, and the table and curve in the README
python -m tests.bench --quick     a minute, nothing written
python -m tests.bench --help

engines.py    the queues, behind one interface
measure.py    one measurement in a process of its own: what it is asked for, it prints as JSON
figures.py    what only this queue is asked: get_job, cold start, memory, latency
report.py     the README's table, the curve
"""
