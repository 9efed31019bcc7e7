"""What normalize makes of what a catalogue lists."""

from collections.abc import Iterable

from core.runtime.flow import Input, TaskContext
from core.runtime.topics import RAW_INSTRUMENT
from normalize.stage import InstrumentTask
from schemas.market import Instrument
from schemas.raw import Description


def instruments(listed: Iterable) -> dict[str, Instrument]:
    """Return what is described of Kalshi's markets, by instrument."""
    task, found = InstrumentTask(TaskContext()), {}
    for one in listed:
        record = Description(
            venue="kalshi", instrument=one.instrument, payload=one.payload, context=one.context, recv_ts_ns=1
        )
        (output,) = task.handle(Input(record, RAW_INSTRUMENT["kalshi"].noun, 0, 0, one.instrument))
        found[one.instrument] = output.record
    return found
