"""A run: every workload for every subject, round after round.

Decided here and only here: the order, and what a failure means.  A round goes
through all workloads, and for each through all subjects one after the other, in
an order that turns with every round; so what drifts in the machine drifts for
all.  Every cell has a fresh upper and a fresh mount.

A step that fails is "failed" for that subject, with the reason, and is not tried
again; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.cell import Cell, Wrong, opened_cell
from benchmarks.layers import Stack
from benchmarks.results import Results
from benchmarks.scale import Scale
from benchmarks.subjects import Refused, Subject
from benchmarks.workload import Step, Workload

Say = Callable[[str], None]


class Runner:
    """One run in directory `work`; `results` grows as it goes on."""

    def __init__(
        self,
        work: Path,
        scale: Scale,
        subjects: Sequence[Subject],
        workloads: Sequence[Workload],
        say: Say,
    ) -> None:
        self._work = work
        self._scale = scale
        self._subjects = subjects
        self._workloads = workloads
        self._say = say
        self._stacks: dict[str, Stack] = {}
        self._fingerprints: dict[str, int] = {}
        self.results = Results(subjects=[subject.name for subject in subjects])
        for workload in workloads:
            for step in workload.steps:
                self.results.add_row(step.row)
                for subject in subjects:
                    why = _why_not(subject, workload, step)
                    self.results.of(step.row.name, subject.name).not_applicable = why

    def run(self, rounds: int) -> None:
        """Make the layers, then run all rounds."""
        for workload in self._workloads:
            self._say(f"layers of {workload.name}")
            where = self._work / "layers" / workload.name
            where.mkdir(parents=True)
            self._stacks[workload.name] = workload.prepare(where, self._scale)
            self._fingerprints[workload.name] = self._stacks[workload.name].fingerprint()
        for number in range(rounds):
            for workload in self._workloads:
                if number < workload.most_rounds:
                    self._round(number, rounds, workload)

    def _round(self, number: int, rounds: int, workload: Workload) -> None:
        turn = number % len(self._subjects)
        for subject in (*self._subjects[turn:], *self._subjects[:turn]):
            steps = [step for step in workload.steps if self._is_due(step, subject)]
            if not steps:
                continue
            self._say(f"round {number + 1} of {rounds}: {workload.name}, {subject.title}")
            try:
                with opened_cell(
                    self._work,
                    self._scale,
                    subject,
                    self._stacks[workload.name],
                    writes=workload.writes,
                    is_mounted=not workload.mounts_itself,
                ) as cell:
                    for step in steps:
                        self._measure(step, cell, verify=number == 0)
            except (Refused, OSError) as error:
                for step in steps:
                    series = self.results.of(step.row.name, subject.name)
                    series.failed = series.failed or str(error)
        if number == 0:
            self._check_layers(workload)

    def _is_due(self, step: Step, subject: Subject) -> bool:
        series = self.results.of(step.row.name, subject.name)
        return not series.failed and not series.not_applicable

    def _measure(self, step: Step, cell: Cell, verify: bool) -> None:
        series = self.results.of(step.row.name, cell.subject.name)
        try:
            used = cell.cpu_ms
            value = step.run(cell)
            used = cell.cpu_ms - used
            if verify:
                step.verify(cell)
            series.values.append(value)
            if used:
                series.cpu_ms.append(used)
        except (Wrong, OSError) as error:
            series.failed = str(error)
            self._say(f"{cell.subject.title} failed {step.row.name}: {error}")

    def _check_layers(self, workload: Workload) -> None:
        """Fail everybody's figures if the layers are not what they were."""
        now = self._stacks[workload.name].fingerprint()
        if now != self._fingerprints[workload.name]:
            for step in workload.steps:
                for series in self.results.series[step.row.name].values():
                    series.failed = series.failed or "some subject changed the lower layers"


def _why_not(subject: Subject, workload: Workload, step: Step) -> str:
    if why := subject.why_not():
        return why
    if step.needs_copy_up and not subject.copies_up:
        return "it has no copy-on-write"
    if workload.mounts_itself and subject.command is None:
        return "it is no mount"
    if workload.only_served and not subject.serves:
        return "it has no daemon"
    return ""
