"""Generated from `schemas/decision/*.avsc` by `make schemas`; do not edit."""

from typing import ClassVar

from msgspec import field

from schemas.enums import EdgePhase, EntryKind, LegOrder, LinkKind, LinkStatus, Outcome, Polarity, Purpose, RequoteAction, RulingAction, SagaState, Scope, SettlementPhase, Side, StrategyStatus, TimeInForce, TradingState, Verdict
from schemas.record import Record

__all__ = ["Amend", "Beat", "Budget", "Cancel", "Clock", "Command", "Edge", "Entry", "FeeTerm", "Grant", "Intent", "Jurisdiction", "Ledger", "Leg", "Limit", "Link", "ManualTicket", "Posting", "Profile", "Requote", "Ruling", "Saga", "Standing", "Strategy"]

class Amend(Record, frozen=True, kw_only=True, gc=False):
    """Change an order that rests. Where the venue does not offer it the order is cancelled, and its last event says what was filled: what replaces it is a new Grant."""

    schema_name: ClassVar[str] = "crossbook.decision.Amend"
    has_trail: ClassVar[bool] = True

    id: str
    order: str
    account: str
    instrument: str
    price: int
    """YES price, mantissa at price_exp"""
    size: int
    """the total: what is filled already and what is to remain"""
    price_exp: int
    size_exp: int
    expires_s: int = 0
    """0: as it was"""
    reason: str
    now_ns: int
    send_by_ns: int
    """not a byte leaves after this"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Beat(Record, frozen=True, kw_only=True, gc=False):
    """Accounts is alive; gateways stop without it."""

    schema_name: ClassVar[str] = "crossbook.decision.Beat"

    account: str
    account_set: str
    now_ns: int


class Budget(Record, frozen=True, kw_only=True, gc=False):
    """What one part of an account set may use, beside its Limit. Each figure that is -1 is not limited."""

    schema_name: ClassVar[str] = "crossbook.decision.Budget"

    id: str
    """<account set>|<scope>|<name>"""
    account_set: str
    scope: Scope
    """of what: SHARD names are <venue>/<exchange index>"""
    name: str
    """* holds for each that has no record of its own"""
    notional_max_e6: int = -1
    """cost of what is held and reserved"""
    worst_loss_max_e6: int = -1
    """EVENT: cost less what the worst outcome pays; what is reserved counts in full"""
    day_loss_max_e6: int = -1
    """STRATEGY: loss of the UTC day from which it is halted"""
    orders_per_min: int = -1
    """VENUE: orders of new intents; hedges and unwinds count, and are never refused"""
    orders_burst: int = 0
    """VENUE: how many may come at once; 0: as many as in a minute"""
    set_by: str
    approved_by: str = ""
    """the second person"""
    reason: str


class Cancel(Record, frozen=True, kw_only=True, gc=False):
    """Take an order back; repeated until it is terminal."""

    schema_name: ClassVar[str] = "crossbook.decision.Cancel"
    has_trail: ClassVar[bool] = True

    id: str
    order: str
    account: str
    instrument: str
    reason: str
    now_ns: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Clock(Record, frozen=True, kw_only=True, gc=False):
    """The time its log is to take for now."""

    schema_name: ClassVar[str] = "crossbook.decision.Clock"

    now_ns: int


class Command(Record, frozen=True, kw_only=True, gc=False):
    """A human's word on who may trade: RUNNING takes back what a command, a limit or silence had stopped."""

    schema_name: ClassVar[str] = "crossbook.decision.Command"

    id: str
    """command|<account set>|<scope>|<name>: a budget of the same part has a key of its own"""
    account_set: str
    scope: Scope
    """SET, STRATEGY, VENUE or INSTRUMENT"""
    name: str = ""
    """empty: the whole set"""
    state: TradingState
    set_by: str
    reason: str
    ts_ns: int
    flatten_slip_e4: int = -1
    """with REDUCING: what is held is sold while the command stands, at most this far from the best price (1e-4 dollar); -1: it is kept"""


class Edge(Record, frozen=True, kw_only=True, gc=False):
    """An opportunity: begins, refreshes, ends."""

    schema_name: ClassVar[str] = "crossbook.decision.Edge"
    has_trail: ClassVar[bool] = True

    id: str
    """the same from BEGIN to END"""
    strategy: str
    link: str
    phase: EdgePhase
    buy_instrument: str
    """YES bought here; empty for the outcomes of an event"""
    sell_instrument: str
    """YES sold here; empty for the outcomes of an event"""
    size: int
    """executable, at -6"""
    buy_price_e6: int
    """average; of an event what one of each leg costs together"""
    sell_price_e6: int
    """average; of an event what they pay at the least"""
    cost_e6: int
    """capital all legs need"""
    fees_e6: int
    profit_e6: int
    begin_ns: int
    now_ns: int
    input_partition: int
    input_offset: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    instruments: list[str] = field(default_factory=list)
    """of each leg, in the order of execution"""
    sides: list[str] = field(default_factory=list)
    """of each leg, in YES terms of its own instrument"""
    prices_e6: list[int] = field(default_factory=list)
    """of each leg, average YES price"""
    costs_e6: list[int] = field(default_factory=list)
    """of each leg, the capital it needs, fee included"""
    places: list[str] = field(default_factory=list)
    """of each leg, where that capital must lie: the venue, and its shard where it has several"""
    release_ts_ns: int = 0
    """when the last leg's capital is free again in the worst case, dispute and redemption included; 0: not known"""
    annual_e6: int = 0
    """profit over capital, scaled from now until the release to a year, millionths; 0: not known"""
    tradable: bool = True
    """false: it needs what is no order kind (on-chain conversion), it is reported only"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Entry(Record, frozen=True, kw_only=True, gc=False):
    """Money or holdings of an account that moved otherwise than by a fill."""

    schema_name: ClassVar[str] = "crossbook.decision.Entry"
    has_trail: ClassVar[bool] = True

    id: str
    account: str
    kind: EntryKind
    instrument: str = ""
    """empty: cash alone"""
    outcome: Outcome
    size: int = 0
    """change of the holding, at -6"""
    cash_e6: int = 0
    """change of cash"""
    phase: SettlementPhase = "UNKNOWN"
    """of a SETTLEMENT; PROVISIONAL moves neither cash nor holding"""
    reverses: str = ""
    """id of the entry this one takes back, its figures negated; of a statement that was in a report's figures, and so has no entry: its own `payout`"""
    payout: str = ""
    """the venue's own statement (event_id of an order.Payout); empty: its reports showed it"""
    payout_e6: int = -1
    """what one YES pays; -1: not known"""
    held: int = 0
    """PROVISIONAL: what is held, at -6; signed where the venue nets"""
    expected_e6: int = 0
    """PROVISIONAL: cash the venue is to pay"""
    yes_cash_e6: int = 0
    """of a statement: signed cash at the price of YES, without the dollars that lie in contracts short"""
    fee_e6: int = 0
    """fees of the market as the statement has them; charged with the fills, so not in cash_e6"""
    reason: str = ""
    as_of_ns: int = 0
    """the venue's own time"""
    now_ns: int
    log_partition: int
    log_offset: int
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Grant(Record, frozen=True, kw_only=True, gc=False):
    """An executable order: every signed input is fixed."""

    schema_name: ClassVar[str] = "crossbook.decision.Grant"
    has_trail: ClassVar[bool] = True

    id: str
    intent: str
    account: str
    account_set: str
    instrument: str
    leg: int
    attempt: int
    purpose: Purpose
    side: Side
    """in YES terms"""
    outcome: Outcome
    """the token chosen"""
    token_side: Side
    """of that token"""
    token: str = ""
    """the venue's id of the token, empty if none"""
    price: int
    """YES price, mantissa at price_exp"""
    size: int
    price_exp: int
    size_exp: int
    time_in_force: TimeInForce
    client_id: str
    salt: int
    timestamp_ms: int
    expires_s: int = 0
    neg_risk: bool = False
    post_only: bool = False
    """never takes: refused where it would cross"""
    fee_max_e6: int
    version_offset: int
    """of the Depth it is based on"""
    version_index: int
    now_ns: int
    send_by_ns: int
    """not a byte leaves after this"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Leg(Record, frozen=True, kw_only=True, gc=False):
    """One leg of an intent, in YES terms."""

    schema_name: ClassVar[str] = "crossbook.decision.Leg"

    instrument: str
    account: str
    side: Side
    """BUY: long YES"""
    price: int
    """worst acceptable, mantissa at price_exp"""
    size: int
    price_exp: int
    size_exp: int
    fee_max_e6: int
    """largest fee of the whole size"""
    version_offset: int
    """of the Depth walked"""
    version_index: int
    recv_ts_ns: int
    """of that Depth"""
    level_prices: list[int]
    level_sizes: list[int]
    """taken from each level"""
    reduces: bool = False
    """closes what is held instead of opening; only in intents of one leg"""
    rests: bool = False
    """post-only at its price until filled, taken back or expired; only in intents of one leg that no link backs"""
    expires_s: int = 0
    """when it is gone at the latest, seconds since the epoch; of a leg that rests"""
    silence_ms: int = 0
    """taken back when its strategy did not speak of it for so long; 0: not"""


class Intent(Record, frozen=True, kw_only=True, gc=False):
    """What a strategy wants done, all legs or none."""

    schema_name: ClassVar[str] = "crossbook.decision.Intent"
    has_trail: ClassVar[bool] = True
    nested: ClassVar[bool] = True

    id: str
    strategy: str
    link: str
    """or, of an intent of one leg that no link backs, its instrument"""
    account_set: str
    edge: str = ""
    """id of the Edge behind it"""
    now_ns: int
    """log time of the decision"""
    legs: list[Leg]
    """in the order of execution where they go one by one: the uncertain leg first"""
    profit_e6: int
    """guaranteed: the minimum over the link's states, net of fees; without a link 0"""
    input_partition: int
    """of decision.input"""
    input_offset: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    leg_order: LegOrder = "ONE_BY_ONE"
    """how the legs are to leave; TOGETHER only where every venue answers at once and its fills cannot fail, else they go one by one"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Jurisdiction(Record, frozen=True, kw_only=True, gc=False):
    """Whether a legal entity may trade a category of a venue, signed off by a human; none means it may not."""

    schema_name: ClassVar[str] = "crossbook.decision.Jurisdiction"

    id: str
    """<entity>/<venue>/<category>"""
    entity: str
    """legal entity, as the account's profile names it"""
    venue: str
    category: str
    """as the instrument states it; *: every category without a record of its own"""
    verdict: Verdict
    signed_by: str
    """the human who signed it off"""
    reason: str
    """what it rests on: counsel's note, a licence, a ticket"""
    signed_ts_ns: int
    expires_ts_ns: int = 0
    """from then on as if it were not there; 0: never"""
    regions: list[str] = field(default_factory=list)
    """where its gateways must stand (CROSSBOOK_REGION), any of them; empty: anywhere"""


class Ledger(Record, frozen=True, kw_only=True, gc=False):
    """Cash, reservation or holding of one venue account, as we count it."""

    schema_name: ClassVar[str] = "crossbook.decision.Ledger"
    has_trail: ClassVar[bool] = True

    id: str
    """<account>|<instrument>|<outcome>, cash: <account>"""
    account: str
    instrument: str = ""
    """empty: cash"""
    outcome: Outcome
    size: int = 0
    """held, at -6; signed where the venue nets"""
    cash_e6: int = 0
    reserved_e6: int = 0
    fees_e6: int = 0
    """paid so far"""
    cost_e6: int = 0
    """paid for what is held"""
    provisional_e6: int = 0
    """what markets that are determined are to pay for it: not in cash, not usable"""
    known: bool = False
    """the venue's first report was seen"""
    now_ns: int
    log_partition: int
    log_offset: int
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Limit(Record, frozen=True, kw_only=True, gc=False):
    """Risk limits of one account set; none means HALTED."""

    schema_name: ClassVar[str] = "crossbook.decision.Limit"

    id: str
    """account set"""
    state: TradingState
    order_notional_max_e6: int
    market_notional_max_e6: int
    """per instrument"""
    open_sagas_max: int
    unwind_budget_e6: int
    """per saga"""
    set_by: str
    reason: str
    day_loss_reduce_e6: int = -1
    """loss of the UTC day from which only hedges and exits are granted; -1: not limited"""
    day_loss_halt_e6: int = -1
    """loss of the UTC day from which nothing is granted; -1: not limited"""
    silence_reduce_ms: int = -1
    """a gateway of the set that was not heard of for so long: only hedges and exits; -1: not limited"""
    silence_halt_ms: int = -1
    """a gateway that was not heard of for so long: nothing, until a human resumes; -1: not limited"""
    heal_max_e6: int = -1
    """a lasting difference from the venue's reports up to this is healed, a larger one freezes; -1: only said"""
    two_people: bool = False
    """what allows more than before needs approved_by, another than set_by"""
    approved_by: str = ""
    """the second person"""


class Link(Record, frozen=True, kw_only=True, gc=False):
    """Instruments that pay by one event: a pair of two venues, or the outcomes of one event. Approved by a human."""

    schema_name: ClassVar[str] = "crossbook.decision.Link"

    id: str
    version: int
    status: LinkStatus
    instrument_a: str
    instrument_b: str
    polarity: Polarity
    """SAME: YES of a is YES of b"""
    states: list[str]
    """joint states of the world"""
    payout_a_e6: list[int]
    """what one YES of a pays in each state"""
    payout_b_e6: list[int]
    rules_hash_a: str = ""
    rules_hash_b: str = ""
    approved_by: str
    approved_ts_ns: int
    expires_ts_ns: int = 0
    """0: with the instruments"""
    kind: LinkKind = "PAIR"
    """of an EVENT the fields of a and b are empty, of a PAIR instruments, payouts_e6 and rules_hashes"""
    instruments: list[str] = field(default_factory=list)
    """of an EVENT: its outcomes, in the order of the columns"""
    payouts_e6: list[int] = field(default_factory=list)
    """of an EVENT, state-major: for each state one entry for each instrument, what one YES of it pays"""
    rules_hashes: list[str] = field(default_factory=list)
    """of an EVENT: for each instrument; empty: not recorded"""
    exhaustive: bool = False
    """of an EVENT: a human holds that one of these outcomes must win or all are void"""
    event_group: str = ""
    """of an EVENT: the venue's event, as market.Instrument says it"""
    sources: list[str] = field(default_factory=list)
    """for each instrument, who or what decides it, as approved"""
    cutoffs_ns: list[int] = field(default_factory=list)
    """for each instrument, its close_ts_ns as approved; 0 or empty: not recorded"""
    weak_states: list[str] = field(default_factory=list)
    """states that may pay less than the cost: they do not count in the guaranteed minimum, in return for haircut_e6, up to cap_e6"""
    haircut_e6: int = 0
    """of a contract, taken from the guaranteed minimum of the other states"""
    cap_e6: int = 0
    """capital this link may bind; 0: no bound of its own, which weak states do not allow"""
    evidence: list[str] = field(default_factory=list)
    """reasons for (+) and against (-), as they stood when it was proposed"""
    reason: str = ""
    """why it has its status, by whoever set it"""
    set_by: str = ""
    """who proposed, rejected, suspended or expired it"""
    set_ts_ns: int = 0


class ManualTicket(Record, frozen=True, kw_only=True, gc=False):
    """A trade a human made at the venue by hand, written down so that it can be explained. It moves nothing: what the venue reports does."""

    schema_name: ClassVar[str] = "crossbook.decision.ManualTicket"

    id: str
    account: str
    instrument: str
    side: Side
    """in YES terms"""
    size: int
    """at -6"""
    price_e6: int
    """of YES"""
    fee_e6: int = 0
    strategy: str = ""
    """empty: none"""
    reference: str = ""
    """the venue's id of it"""
    traded_ts_ns: int
    set_by: str
    reason: str
    withdrawn: bool = False
    """it was written down by mistake"""
    ts_ns: int


class Posting(Record, frozen=True, kw_only=True, gc=False):
    """A human's word that an account's money or holdings moved, or are about to, otherwise than by trading."""

    schema_name: ClassVar[str] = "crossbook.decision.Posting"

    id: str
    """posting|<account>|<reference>: the second record with it moves nothing"""
    account_set: str
    account: str
    kind: EntryKind
    """none that the ledger makes by itself: OPENING, SETTLEMENT, EXTERNAL"""
    instrument: str = ""
    """empty: cash alone"""
    outcome: Outcome
    size: int = 0
    """signed change of the holding, at -6"""
    cash_e6: int = 0
    """signed change of cash"""
    set_by: str
    approved_by: str = ""
    """the second person"""
    reason: str
    at_ns: int
    """when it moved at the venue, or is said to; what came before an account's first report is in that"""
    ts_ns: int


class FeeTerm(Record, frozen=True, kw_only=True, gc=False):
    """What this account pays from one moment to another, where that is not what the venue states of the instrument."""

    schema_name: ClassVar[str] = "crossbook.decision.FeeTerm"

    instruments: str = ""
    """what instrument ids begin with; empty: all of the venue"""
    category: str = ""
    """of the instrument; empty: all"""
    from_ts_ns: int = 0
    """valid from then on"""
    until_ts_ns: int = 0
    """and before this; 0: until further notice"""
    taker_fee_e6: int = -1
    """coefficient in place of the stated one; -1: the stated one"""
    share_e6: int = 1000000
    """of the coefficient, what this account pays"""
    source: str = ""
    """where that is written"""


class Profile(Record, frozen=True, kw_only=True, gc=False):
    """What one venue account is."""

    schema_name: ClassVar[str] = "crossbook.decision.Profile"
    nested: ClassVar[bool] = True

    id: str
    """<venue>:<name>"""
    venue: str
    account_set: str
    entity: str
    """legal entity"""
    currency: str
    capital_e6: int = 0
    """cash the account set may use; 0: all the venue reports"""
    fees: list[FeeTerm] = field(default_factory=list)
    """the last that is valid and fits counts; none: as the venue states"""


class Requote(Record, frozen=True, kw_only=True, gc=False):
    """What a strategy wants of its intents that rest."""

    schema_name: ClassVar[str] = "crossbook.decision.Requote"
    has_trail: ClassVar[bool] = True

    id: str
    strategy: str
    account_set: str
    action: RequoteAction
    """KEEP: they are wanted still; REPLACE: one, at another price, total or expiry"""
    intents: list[str]
    price: int = 0
    """YES price at -4"""
    size: int = 0
    """the total at -6: what is filled already and what is to remain"""
    expires_s: int = 0
    """when it is gone at the latest, seconds since the epoch"""
    reason: str = ""
    version_offset: int = 0
    """of the Depth it is based on"""
    version_index: int = 0
    now_ns: int
    """log time of the decision"""
    input_partition: int
    """of decision.input"""
    input_offset: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Ruling(Record, frozen=True, kw_only=True, gc=False):
    """A human's word on a saga that could not be balanced."""

    schema_name: ClassVar[str] = "crossbook.decision.Ruling"

    id: str
    """ruling|<saga>"""
    saga: str
    account_set: str
    action: RulingAction
    """HOLD: what stands is kept to resolution; UNWIND: take it back once more"""
    budget_e6: int = 0
    """what unwinding may cost beyond the saga's budget"""
    slip_e4: int = 0
    """how far from the entry's limit an unwind may go"""
    set_by: str
    reason: str
    ts_ns: int
    """one that is not younger than the last is ignored"""


class Saga(Record, frozen=True, kw_only=True, gc=False):
    """State of one order of one or more legs. FIRST_LEG: its first leg is under way, or all of them where they leave together; SECOND_LEG: a later leg is, or one that is completed; RESTING: its one leg is on the book, or on its way there."""

    schema_name: ClassVar[str] = "crossbook.decision.Saga"
    has_trail: ClassVar[bool] = True

    id: str
    """of the intent"""
    strategy: str
    link: str
    account_set: str
    state: SagaState
    reason: str = ""
    filled_first: int = 0
    """at -6"""
    filled_second: int = 0
    unwound: int = 0
    cash_e6: int = 0
    """sum of all its fills"""
    fees_e6: int = 0
    now_ns: int
    log_partition: int
    log_offset: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    filled_e6: list[int] = field(default_factory=list)
    """of each leg, what its entries and hedges filled (of a leg that reduces: what it closed), failed settlements taken off"""
    standing_e6: list[int] = field(default_factory=list)
    """of each leg, what stands of that, unwinds taken off"""
    price: int = 0
    """of a leg that rests, the YES price at -4 it is known to stand at; else 0"""
    size: int = 0
    """and its total at -6, what is filled included"""
    leg_order: LegOrder = "UNKNOWN"
    """how its legs leave; UNKNOWN of an intent that was refused"""
    leg_order_reason: str = ""
    """why: AS_ASKED, or what keeps legs from leaving together"""
    sides: list[str] = field(default_factory=list)
    """of each leg, in YES terms of its own instrument"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Standing(Record, frozen=True, kw_only=True, gc=False):
    """How an account set, or a part of it that is limited or stopped, stands. Written when it changed."""

    schema_name: ClassVar[str] = "crossbook.decision.Standing"
    has_trail: ClassVar[bool] = True

    id: str
    """<account set>|<scope>|<name>"""
    account_set: str
    scope: Scope
    name: str = ""
    """empty: the whole set"""
    state: TradingState
    cause: str = ""
    """of a state that is not RUNNING"""
    notional_e6: int = 0
    """cost of what is held and reserved"""
    notional_max_e6: int = -1
    worst_loss_e6: int = 0
    worst_loss_max_e6: int = -1
    day_pnl_e6: int = 0
    """since the UTC day began: linked quantity at its worst-case payout, the rest at LIVE prices"""
    day_loss_max_e6: int = -1
    stale: int = 0
    """holdings that need a mark and have none that is young"""
    now_ns: int
    log_partition: int
    log_offset: int
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Strategy(Record, frozen=True, kw_only=True, gc=False):
    """Configuration of one strategy."""

    schema_name: ClassVar[str] = "crossbook.decision.Strategy"

    id: str
    kind: str
    """entry point name"""
    status: StrategyStatus
    account_set: str
    params: str
    """JSON text of the kind's typed parameters"""
    instruments: list[str] = field(default_factory=list)
    """whose books and trades it sees beside those of the approved links"""
    blind_to: list[str] = field(default_factory=list)
    """kinds of links whose books it need not see: PAIR, EVENT"""
