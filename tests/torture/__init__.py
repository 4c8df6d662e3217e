"""The proof by force: what the table is after a kill, a power cut or a refusing disk at any step.

python -m tests.torture            everything, as `make torture` does
python -m tests.torture steps      one part: steps, cuts, faults, kills or soak
python -m tests.torture --help     seeds, and how to run one case again

scenarios.py   the operations, on tables made for them
shim.py        stands between the engine and the kernel: counts, kills, refuses, records
reader.py      reads a table, sharing no code with the engine
history.py     what each job may be after a run was cut short, by what was promised till then
check.py       the invariants, asked by a fresh process
steps.py       a kill before, in and after every system call
cuts.py        every state of the disk that a power cut may leave
faults.py      ENOSPC, EIO and EDQUOT from every write and sync
traced.py      the same by strace, from outside, and the shim's list held against strace's
kills.py       producers and workers under load, killed a thousand times
soak.py        everything at once
"""
