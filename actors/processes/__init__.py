"""Process trees: start programs, see all that comes of them, freeze it, and end it provably.

tree.py      one tree per incarnation of an engine: spawn, processes, freeze, thaw, end; standstill.py how it is frozen,
             newer.py how a part of it is ended, confined.py what holds it
process.py   one started program; streams.py its pipes or terminal; spawning.py how its start is ordered and answered
confine.py   what a program is born into: its directory, its limits; sandbox.py what it may be shut into
guardian.py  our side of the helper program; keeper.py the program itself, and why it is one
leftovers.py what a killed daemon left behind
cgroup.py    the control group of a tree, where the house has some; delegation.py where it may
linux.py     what /proc and pidfds tell and do
"""

from actors.processes.delegation import claim
from actors.processes.guardian import hold_guardian
from actors.processes.lasting import Home, homes, standing
from actors.processes.leftovers import reap_leftovers
from actors.processes.listing import Leak, ProcessInfo
from actors.processes.process import Process
from actors.processes.spawning import SpawnFailed
from actors.processes.tree import Tree

__all__ = [
    "Home",
    "Leak",
    "Process",
    "ProcessInfo",
    "SpawnFailed",
    "Tree",
    "claim",
    "hold_guardian",
    "homes",
    "reap_leftovers",
    "standing",
]
