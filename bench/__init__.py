"""The benches: every figure is a ratio against a reference measured in the same run, interleaved.

Machines are shared and noisy, so a figure alone says nothing and a test that asserts one lies. A row measures both
sides in turn, several rounds; what is reported is the median of the rounds' ratios, with the budget beside it.

    python -m bench                     the whole table, into bench/results/latest.{md,json}
    python -m bench mailbox tell        some rows, to the terminal alone
    python -m bench --quick             every row in seconds, to see that it runs

`figures` says what a figure is, `measure` how it is taken; each other file is one subject. `peers/` holds the servers
that ours are compared with, `load` and `readers` the clients, in processes of their own.
"""
