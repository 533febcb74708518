"""How a transfer is run by default."""

from __future__ import annotations

from layerstore.limits import DEFAULT
from layerstore.progress import Progress, Status
from layerstore.registry.transfer import PLAIN, Transfer


def test_by_default_nobody_hears_of_it_and_nothing_is_cancelled() -> None:
    assert Transfer() == PLAIN and PLAIN.parallel is None and PLAIN.limits is DEFAULT
    PLAIN.report(Progress("a", Status.PULLED))
    PLAIN.cancel()
