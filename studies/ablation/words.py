"""The words of an ablation's page: how to read its figures, and its own style."""

from __future__ import annotations

from .judged import LATE
from .measure import MOST_CALLS, REPEATED_BELOW_SECONDS

INTRODUCTION = """Who decides best which client of a fleet skips a round, trains in floats, or
trains with the rounding in the loop? Every solver gets the same programs and the same time; every
answer is checked against its program, and every proof against everybody else's answers."""

READ_PROFILE = """<b>How to read.</b> Higher is better. At 1 a line shows on which share of the
problems the solver is the fastest; further right, on which share it takes at most so many times as
long as the fastest; at the right end, how many it solves at all (Dolan and Moré, 2002). What
counts as solved is chosen above: proven optimal, within 1e-4 of the best known objective, or any
verified allocation; what came late does not count. Click a name to hide a solver, twice to see it
alone."""
READ_BUDGET = """<b>How to read.</b> Further left and higher is better: the share of the problems
that a solver solves within a time."""
READ_SCALING = """<b>How to read.</b> Lower is better, flatter grows better. Each point is the
median over the problems of a size that came within 1e-4 of the best known, the bar the middle half
of them; a hollow point says that not all came near, and a line ends where none did. Both axes are
logarithmic."""
READ_QUALITY = """<b>How to read.</b> Further left and lower is better. Each point is the median
over the seeds of a family and size: how far the objective is above the best that anybody found, or
how much of it is left unproven. What is within solvers' own tolerances (1e-6) lies at the foot;
where most have no bound, there is no point."""
READ_AGREEMENT = """<b>How to read.</b> In percent. A solver that reaches the best objective with
other clients has found a tie: both allocations are right. Blank: all problems
refused, or nothing to compare."""
READ_PHASES = """<b>How to read.</b> Mean shares of whole calls: building the library's model,
turning it into canonical form, solving, and all else; to the right the median time of a call that
came within 1e-4. fedhq's own solvers have no model to build. SCIPY, SCIP, CBC and GLPK_MI behind
cvxpy run in a process of their own, which can be ended; its start is not part of the call."""
READ_MEMORY = """<b>How to read.</b> Lower is better: by how much the process's memory rose during
the call, median and middle half of the problems of a size; what is below 0.1 MB is shown there."""
READ_FEDERATIONS = """<b>How to read.</b> Further left and higher is better. Each line is a
federation that trained with the solver's allocations: the mean over its seeds, and their range.
Solvers that decided alike in every seed share a line, because their federations are the same."""
FEDERATIONS = """Does a better solver make a better model? The same short federation was trained
with each of some solvers deciding in every round: same data, devices, first weights and goal."""
ALIKE = """Solvers whose decisions have the same mark told every client the same in every round and
seed: what they trained is the same, byte for byte. Differences of a few hundredths between others
may be chance. Planning is wall time of the machine that trained, all else is simulated."""

ORIGIN = f"""Every cell is measured on one core, after a tiny problem that loads what the solver
needs: by {MOST_CALLS} calls, or by 3 or 1 where these took {REPEATED_BELOW_SECONDS:g} s together.
The time is the median call's, the answer and the memory are the first call's. The start of a
process that some solvers need counts nowhere. An answer counts up to {LATE:g} times the limit.
Every figure is computed from <code>{{file}}</code> in the folder of this page, a line
for every problem, solver and limit, each with its seed, the solver's settings and version, and the
run below that measured it. <code>cells.csv</code> holds the same as a table,
<code>table.tex</code> the summary for a paper. To repeat what is not measured yet, run in the same
place:"""

STYLE = """
body{max-width:1240px}
.verdict{margin:0 0 20px;padding-left:1.2em;max-width:90ch} .verdict li{margin:4px 0}
select{max-width:min(320px,100%)} tbody th{min-width:0;white-space:nowrap} td b{font-weight:650}
.wide table{font-size:14px} .wide :is(th,td){padding:9px 10px} .plain{max-width:94ch}
.text :is(th,td){text-align:left;vertical-align:top} td code{font-size:13px}
details{margin:-8px 2px 20px;max-width:94ch;color:var(--soft);font-size:14px}
summary{cursor:pointer} dt{margin-top:8px;color:var(--ink);font-weight:600} dd{margin:0}
"""
