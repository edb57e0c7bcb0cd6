"""Whether a program speaks the language of the `process` kind: `enginehouse conform` runs these checks against it.

`checks` says what is expected, as data with names; `partner` is the house as the program sees it; `trial` runs them.
"""

from actors.conformance.checks import CHECKS, Check
from actors.conformance.trial import Outcome, Trial, conform

__all__ = ["CHECKS", "Check", "Outcome", "Trial", "conform"]
