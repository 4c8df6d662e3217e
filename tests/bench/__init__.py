"""What the queue costs, beside what people use instead; run on your own machine by `make bench`.

python -m tests.bench            all of it, under 10 minutes
python -m tests.bench --quick    the same with fewer rounds and smaller tables, under a minute
python -m tests.bench --report   writes docs/performance.md and the curve anew, from the last run

adapters.py    each engine behind the same four methods
actor.py       a process that puts or works, as one engine
actors.py      starts such processes, lets them go at once, and says what a job cost
own.py         our figures with a target, each in a process of its own
peers.py       backlogs, workers and producers; pick-up; cold start; looking a job up
machine.py     what it was measured on
figures.py     median and spread
report.py      the part of docs/performance.md that is measured
curve.py       the picture of how cost grows
"""
