"""The first tables: tickets, orders, fills, positions, audit, marks, performance, jobs.

Money, sizes and prices are the records' own integers at 1e-6 (`_e6`); times are what the records say. Every table but
`job_run` is of one incarnation of a run, which is in every key: a run that was made again begins empty.
"""

import re

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE run (
    incarnation bigint PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE run IS 'runs this database holds; of several incarnations of a name the newest counts';

CREATE TABLE sink_offset (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    topic text NOT NULL,
    partition int NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (incarnation, topic, partition)
);
COMMENT ON TABLE sink_offset IS 'how far each log is in these tables; moved in the transaction that writes its rows';

CREATE TABLE sink_gap (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    topic text NOT NULL,
    partition int NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (incarnation, topic, partition, from_offset)
);
COMMENT ON TABLE sink_gap IS 'records that Kafka had deleted before they were read; empty unless the sink was down for longer than retention';

CREATE TABLE rejected (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    topic text NOT NULL,
    partition int NOT NULL,
    log_offset bigint NOT NULL,
    error text NOT NULL,
    reason text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (incarnation, topic, partition, log_offset)
);
COMMENT ON TABLE rejected IS 'records that became no row, and why';

CREATE TABLE instrument (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    instrument text NOT NULL,
    venue text NOT NULL,
    title text NOT NULL,
    event_group text NOT NULL,
    category text NOT NULL,
    status text NOT NULL,
    closes_at timestamptz,
    PRIMARY KEY (incarnation, instrument)
);

CREATE TABLE ticket (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    id text NOT NULL,
    strategy text NOT NULL,
    link text NOT NULL,
    account_set text NOT NULL,
    edge text NOT NULL,
    legs int NOT NULL,
    profit_e6 bigint NOT NULL,
    input_partition int NOT NULL,
    input_offset bigint NOT NULL,
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, id)
);
COMMENT ON TABLE ticket IS 'one per intent; input_partition and input_offset name what its strategy saw in decision.input';
CREATE INDEX ticket_by_time ON ticket (incarnation, decided_at DESC, id);

CREATE TABLE ticket_leg (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    ticket text NOT NULL,
    leg int NOT NULL,
    account text NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    price bigint NOT NULL,
    size bigint NOT NULL,
    price_exp int NOT NULL,
    size_exp int NOT NULL,
    fee_max_e6 bigint NOT NULL,
    reduces boolean NOT NULL,
    PRIMARY KEY (incarnation, ticket, leg)
);

CREATE TABLE ticket_state (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    ticket text NOT NULL,
    log_partition int NOT NULL,
    log_offset bigint NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    filled_e6 bigint[] NOT NULL,
    standing_e6 bigint[] NOT NULL,
    unwound_e6 bigint NOT NULL,
    cash_e6 bigint NOT NULL,
    fees_e6 bigint NOT NULL,
    strategy text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, ticket, log_partition, log_offset)
);
COMMENT ON TABLE ticket_state IS 'what the saga of a ticket said, step by step';

CREATE TABLE venue_order (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    id text NOT NULL,
    ticket text NOT NULL,
    leg int NOT NULL,
    attempt int NOT NULL,
    purpose text NOT NULL,
    account text NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    outcome text NOT NULL,
    token_side text NOT NULL,
    price bigint NOT NULL,
    size bigint NOT NULL,
    price_exp int NOT NULL,
    size_exp int NOT NULL,
    time_in_force text NOT NULL,
    client_id text NOT NULL,
    granted_at timestamptz NOT NULL,
    send_by timestamptz NOT NULL,
    PRIMARY KEY (incarnation, id)
);
CREATE INDEX venue_order_by_ticket ON venue_order (incarnation, ticket, leg, attempt);
CREATE INDEX venue_order_by_time ON venue_order (incarnation, granted_at);

CREATE TABLE order_state (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    event_id text NOT NULL,
    order_id text NOT NULL,
    account text NOT NULL,
    status text NOT NULL,
    terminal boolean NOT NULL,
    venue_order text NOT NULL,
    filled_e6 bigint NOT NULL,
    reason text NOT NULL,
    log_partition int NOT NULL,
    log_offset bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, event_id)
);
COMMENT ON TABLE order_state IS 'what became of each order; SUBMITTING is its bytes on the log before they leave';
CREATE INDEX order_state_by_order ON order_state (incarnation, order_id, log_offset);

CREATE TABLE fill (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    account text NOT NULL,
    fill text NOT NULL,
    order_id text NOT NULL,
    instrument text NOT NULL,
    outcome text NOT NULL,
    token_side text NOT NULL,
    size_e6 bigint NOT NULL,
    price_e6 bigint NOT NULL,
    notional_e6 bigint NOT NULL,
    fee_e6 bigint NOT NULL,
    asset text NOT NULL,
    liquidity text NOT NULL,
    yes_size_e6 bigint NOT NULL,
    yes_cash_e6 bigint NOT NULL,
    failed boolean NOT NULL DEFAULT false,
    marks smallint NOT NULL DEFAULT 0,
    log_partition int NOT NULL,
    log_offset bigint NOT NULL,
    heard_ns bigint NOT NULL,
    venue_at timestamptz,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, account, fill)
);
COMMENT ON COLUMN fill.yes_size_e6 IS 'signed: what it adds to the position in YES';
COMMENT ON COLUMN fill.yes_cash_e6 IS 'signed, without the fee, at the YES price: buying NO at q is selling YES at 1 - q';
COMMENT ON COLUMN fill.marks IS 'how many of its mark-outs are noted';
COMMENT ON COLUMN fill.heard_ns IS 'when its frame was read from the socket, ns since the epoch';
CREATE INDEX fill_by_order ON fill (incarnation, order_id);
CREATE INDEX fill_unmarked ON fill (incarnation, heard_ns) WHERE marks < 4;
CREATE INDEX fill_by_time ON fill (incarnation, at);
CREATE INDEX fill_by_instrument ON fill (incarnation, account, instrument, log_offset);

CREATE TABLE settlement (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    account text NOT NULL,
    fill text NOT NULL,
    settlement text NOT NULL,
    reference text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, account, fill)
);
COMMENT ON TABLE settlement IS 'how the settlement of a fill ended: CONFIRMED or FAILED, whichever was said first';
CREATE INDEX settlement_by_time ON settlement (incarnation, at);

CREATE TABLE position (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    account text NOT NULL,
    instrument text NOT NULL,
    size_e6 bigint NOT NULL,
    cost_e6 bigint NOT NULL,
    realised_e6 bigint NOT NULL,
    fees_e6 bigint NOT NULL,
    no_e6 bigint NOT NULL,
    fills int NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, account, instrument)
);
COMMENT ON COLUMN position.size_e6 IS 'in YES: long above 0, short (or NO held) below';
COMMENT ON COLUMN position.cost_e6 IS 'signed YES cash of what is open, at average cost: paid for a long, taken in for a short';
COMMENT ON COLUMN position.no_e6 IS 'NO tokens among it, where a venue holds them apart';

CREATE TABLE venue_account (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    account text NOT NULL,
    opening_cash_e6 bigint NOT NULL,
    opening_holdings jsonb NOT NULL,
    cash_e6 bigint NOT NULL,
    holdings jsonb NOT NULL,
    open_orders text[] NOT NULL,
    reports bigint NOT NULL,
    as_of timestamptz,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, account)
);
COMMENT ON TABLE venue_account IS 'what the venue itself says an account has: its first report and its newest';

CREATE TABLE ledger (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    id text NOT NULL,
    account text NOT NULL,
    instrument text NOT NULL,
    outcome text NOT NULL,
    size_e6 bigint NOT NULL,
    cash_e6 bigint NOT NULL,
    reserved_e6 bigint NOT NULL,
    fees_e6 bigint NOT NULL,
    cost_e6 bigint NOT NULL,
    known boolean NOT NULL,
    log_partition int NOT NULL,
    log_offset bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, id)
);
COMMENT ON TABLE ledger IS 'what the accounts task counts, its newest word on each line';

CREATE TABLE entry (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    id text NOT NULL,
    account text NOT NULL,
    kind text NOT NULL,
    instrument text NOT NULL,
    outcome text NOT NULL,
    size_e6 bigint NOT NULL,
    cash_e6 bigint NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, id)
);
COMMENT ON TABLE entry IS 'money or holdings that moved otherwise than by a fill';

CREATE TABLE audit (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    topic text NOT NULL,
    partition int NOT NULL,
    log_offset bigint NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    who text NOT NULL,
    second text NOT NULL,
    why text NOT NULL,
    said jsonb,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, topic, partition, log_offset)
);
COMMENT ON TABLE audit IS 'every word of a human that reached the log, whole; said is null for what was taken away';
CREATE INDEX audit_by_time ON audit (incarnation, at);

CREATE TABLE manual_ticket (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    id text NOT NULL,
    account text NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    size_e6 bigint NOT NULL,
    price_e6 bigint NOT NULL,
    fee_e6 bigint NOT NULL,
    strategy text NOT NULL,
    reference text NOT NULL,
    who text NOT NULL,
    why text NOT NULL,
    withdrawn boolean NOT NULL,
    traded_at timestamptz NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (incarnation, id)
);

CREATE TABLE mark_out (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    account text NOT NULL,
    fill text NOT NULL,
    horizon_ms int NOT NULL,
    state text NOT NULL,
    bid_e6 bigint,
    ask_e6 bigint,
    gain_e6 bigint,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (incarnation, account, fill, horizon_ms)
);
COMMENT ON TABLE mark_out IS 'the quote so long after a fill, and what the fill had gained by then at its mid, without its fee';

CREATE TABLE performance (
    incarnation bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    day date NOT NULL,
    account text NOT NULL,
    strategy text NOT NULL,
    fills int NOT NULL,
    volume_e6 bigint NOT NULL,
    fees_e6 bigint NOT NULL,
    realised_e6 bigint NOT NULL,
    open_cost_e6 bigint NOT NULL,
    unrealised_e6 bigint NOT NULL,
    unmarked int NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (incarnation, day, account, strategy)
);
COMMENT ON TABLE performance IS 'a UTC day of one strategy on one account; unrealised stands as it was when last noted';

CREATE TABLE job_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job text NOT NULL,
    run text NOT NULL,
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    outcome text NOT NULL,
    rows bigint NOT NULL,
    detail text NOT NULL
);
CREATE INDEX job_run_by_time ON job_run (job, began_at DESC);

CREATE VIEW current_run AS
    SELECT DISTINCT ON (name) name, incarnation, created_at FROM run ORDER BY name, created_at DESC;

CREATE VIEW ticket_now AS
    SELECT t.*, s.state, s.reason, s.filled_e6, s.standing_e6, s.unwound_e6, s.cash_e6, s.fees_e6, s.at AS state_at
    FROM ticket t LEFT JOIN LATERAL (
        SELECT * FROM ticket_state s WHERE s.incarnation = t.incarnation AND s.ticket = t.id
        ORDER BY s.log_partition DESC, s.log_offset DESC LIMIT 1
    ) s ON true;

CREATE VIEW fill_of AS
    SELECT f.*, coalesce(o.ticket, '') AS ticket, coalesce(o.leg, -1) AS leg, coalesce(o.purpose, '') AS purpose,
        coalesce(t.strategy, '') AS strategy, coalesce(t.link, '') AS link,
        coalesce(i.event_group, '') AS event_group, coalesce(i.category, '') AS category
    FROM fill f
    LEFT JOIN venue_order o ON o.incarnation = f.incarnation AND o.id = f.order_id
    LEFT JOIN ticket t ON t.incarnation = f.incarnation AND t.id = o.ticket
    LEFT JOIN instrument i ON i.incarnation = f.incarnation AND i.instrument = f.instrument;
COMMENT ON VIEW fill_of IS 'each fill with its order, ticket and strategy, as far as they are known';
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute(TABLES)


def downgrade() -> None:
    """Drop them with what they hold: the sink writes again what the logs still keep."""
    for kind, name in reversed(re.findall(r"^CREATE (TABLE|VIEW) (\w+)", TABLES, re.MULTILINE)):
        op.execute(f"DROP {kind} {name}")
