"""What settled markets pay: the phase of an entry, what it takes back, the venue's statement behind it."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = (
    ("phase", "text NOT NULL DEFAULT 'UNKNOWN'"),
    ("reverses", "text NOT NULL DEFAULT ''"),
    ("payout", "text NOT NULL DEFAULT ''"),
    ("payout_e6", "bigint NOT NULL DEFAULT -1"),
    ("held_e6", "bigint NOT NULL DEFAULT 0"),
    ("expected_e6", "bigint NOT NULL DEFAULT 0"),
    ("yes_cash_e6", "bigint NOT NULL DEFAULT 0"),
    ("fee_e6", "bigint NOT NULL DEFAULT 0"),
)

PAYOUT = """
CREATE VIEW payout AS
    SELECT e.*, e.reverses = '' AND NOT EXISTS (
        SELECT FROM entry r WHERE r.incarnation = e.incarnation AND r.reverses = e.id AND e.id <> ''
    ) AS stands
    FROM entry e WHERE e.kind = 'SETTLEMENT' AND e.instrument <> '';
"""


def upgrade() -> None:
    """Add the columns and the view."""
    for name, kind in COLUMNS:
        op.execute(f"ALTER TABLE entry ADD COLUMN {name} {kind}")
    op.execute("ALTER TABLE ledger ADD COLUMN provisional_e6 bigint NOT NULL DEFAULT 0")
    op.execute("CREATE INDEX entry_reverses ON entry (incarnation, reverses) WHERE reverses <> ''")
    op.execute(PAYOUT)
    op.execute("COMMENT ON VIEW payout IS 'what settled markets pay: which entries stand, and which were taken back'")


def downgrade() -> None:
    """Take them away."""
    op.execute("DROP VIEW payout")
    op.execute("DROP INDEX entry_reverses")
    op.execute("ALTER TABLE ledger DROP COLUMN provisional_e6")
    for name, _ in reversed(COLUMNS):
        op.execute(f"ALTER TABLE entry DROP COLUMN {name}")
