"""What `enginehouse doctor` looks at: is this machine fit for a house, and which agents are here?

finding.py   what a look found, and how bad that is
house.py     what a daemon stands on: its packages, its settings, its state folder, its port
machine.py   the system: programs, sandboxes, control groups, limits
agents.py    the presets of the acp kind, each greeted
"""

from web.doctor.agents import agent
from web.doctor.finding import Finding
from web.doctor.house import house
from web.doctor.machine import machine

__all__ = ["Finding", "agent", "house", "machine"]
