"""Errors, named by what happens to the record that caused them.

    CrossbookError
    ├── Retry        the same input may succeed later: pause, keep the offset
    │   └── Unavailable
    ├── Reject       this record never will: dead-letter it with its bytes and the reason, advance
    │   ├── MalformedFrame      not JSON, a missing field, a wrong type
    │   ├── NotExact            a number that has no exact integer at the asked exponent
    │   ├── OffGrid             a price that is not on the instrument's tick table
    │   ├── UnknownInstrument   nobody listed it
    │   ├── UnknownSchema       a schema id the registry does not know, or a record type no reader knows
    │   ├── RunMismatch         a record that belongs to another run or incarnation
    │   └── StateUnreadable     a checkpoint of another version of the code: read the log instead
    ├── Resync       our state is wrong: mark the book SUSPECT, ask for a snapshot, advance
    │   ├── SequenceGap
    │   ├── NegativeLevel
    │   └── UntrustedBook       a price, size or edge was asked of a book that is not LIVE
    ├── Unknown      it cannot be known whether it happened: look up, never send again blindly
    │   └── OutcomeUnknown
    ├── Fenced       this work has a newer owner: drop it, write nothing more
    └── Halt         an invariant broke: stop the stage, page
        ├── Misconfigured       settings that must not start (exit code 2)
        └── InvariantBroken

Raise leaves, catch branches. A policy refusal is a record, never an error.
"""


class CrossbookError(Exception):
    """Root of every error this project raises on purpose."""


class Retry(CrossbookError):
    """The same input may succeed later."""


class Unavailable(Retry):
    """A server that is needed does not answer."""


class Reject(CrossbookError):
    """This record will never be handled.

    Attributes:
        outputs: what is to be published before the dead letter is written: the reset of the books that the record could
            have changed, and what of it could be handled (`core.runtime.flow.Output`s).
    """

    outputs: tuple[object, ...] = ()


class MalformedFrame(Reject):
    """The venue's bytes are not what its protocol says."""


class NotExact(Reject):
    """A number has no exact integer at the asked exponent, or is not a plain decimal."""


class OffGrid(Reject):
    """A price is not on the tick table of its instrument."""


class UnknownInstrument(Reject):
    """An instrument nobody listed."""


class UnknownSchema(Reject):
    """A schema id or a record type no reader knows."""


class RunMismatch(Reject):
    """A record that belongs to another run or incarnation."""


class StateUnreadable(Reject):
    """A checkpoint's state that this version of the code cannot read."""


class Resync(CrossbookError):
    """Our state is wrong; only a snapshot heals it."""


class SequenceGap(Resync):
    """A number of the venue's sequence is missing."""


class NegativeLevel(Resync):
    """A change would take a level of the book below zero."""


class UntrustedBook(Resync):
    """A price, size or edge was asked of a book that is not LIVE."""


class Unknown(CrossbookError):
    """It cannot be known whether something happened."""


class OutcomeUnknown(Unknown):
    """An order's bytes left and no answer came."""


class Fenced(CrossbookError):
    """This work has a newer owner."""


class Halt(CrossbookError):
    """An invariant broke; the stage stops."""


class Misconfigured(Halt):
    """Settings, topics or schemas with which a worker must not start."""


class InvariantBroken(Halt):
    """Something that cannot happen happened."""
