"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Go forward. There is no way back: restore a backup instead."""
    op.create_table(
        "agent",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("max_concurrent_calls", sa.Integer(), nullable=True),
        sa.Column("context", TEXT, nullable=True),
        sa.Column("exten", TEXT, nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("queue", TEXT, nullable=True),
        sa.Column("application", TEXT, nullable=True),
        sa.Column("data", TEXT, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_agent_name", "agent", ["tenant", "name"], unique=True)
    op.create_table(
        "api_key",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("tenant", TEXT, nullable=True),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("salt", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "call",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("contact_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("pbx", TEXT, nullable=False),
        sa.Column("trunk", TEXT, nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("caller_id", TEXT, nullable=True),
        sa.Column("phone_number", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=True),
        sa.Column("fault", TEXT, nullable=True),
        sa.Column("hangup_cause", sa.Integer(), nullable=True),
        sa.Column("hangup_text", TEXT, nullable=True),
        sa.Column("sip_status", sa.Integer(), nullable=True),
        sa.Column("hung_up_by", TEXT, nullable=True),
        sa.Column("originated_at", sa.BigInteger(), nullable=False),
        sa.Column("ringing_at", sa.BigInteger(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("handed_over_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("talk_seconds", sa.Float(), nullable=True),
        sa.Column("recording", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_call_campaign", "call", ["campaign_id", "originated_at", "id"], unique=False)
    op.create_index("ix_call_contact", "call", ["contact_id"], unique=False)
    op.create_index(
        "ix_call_live",
        "call",
        ["pbx"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_call_number", "call", ["tenant", "phone_number", "originated_at"], unique=False)
    op.create_table(
        "callback",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("contact_id", sa.BigInteger(), nullable=False),
        sa.Column("phone_number", TEXT, nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("note", TEXT, nullable=True),
        sa.Column("revived", sa.Boolean(), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_callback_contact", "callback", ["contact_id"], unique=False)
    op.create_index("ix_callback_due", "callback", ["campaign_id", "status", "due_at", "id"], unique=False)
    op.create_table(
        "campaign",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("settings", TEXT, nullable=False),
        sa.Column("keep_open", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", TEXT, nullable=True),
        sa.Column("visible", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_campaign_tenant", "campaign", ["tenant", "status", "id"], unique=False)
    op.create_table(
        "campaign_stats",
        sa.Column(
            "campaign_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("pending", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("originated", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("connected", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cancelled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("calls_placed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("calls_withdrawn", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("calls_answered", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("talk_millis", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_answered", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_machine", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_abandoned", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_busy", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_no_answer", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_rejected", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_invalid_number", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_congestion", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_unreachable", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_interrupted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_cancelled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome_failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("campaign_id"),
    )
    op.create_table(
        "contact",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("list_id", sa.BigInteger(), nullable=False),
        sa.Column("phone_number", TEXT, nullable=False),
        sa.Column("first_name", TEXT, nullable=True),
        sa.Column("last_name", TEXT, nullable=True),
        sa.Column("email", TEXT, nullable=True),
        sa.Column("company", TEXT, nullable=True),
        sa.Column("timezone", TEXT, nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("external_id", TEXT, nullable=True),
        sa.Column("attributes", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("callee_tries", sa.Integer(), nullable=False),
        sa.Column("mishaps", sa.Integer(), nullable=False),
        sa.Column("outcomes", TEXT, nullable=False),
        sa.Column("last_outcome", TEXT, nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("deferred", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("reason", TEXT, nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_contact_base",
        "contact",
        ["campaign_id", "list_id", "id"],
        unique=False,
        sqlite_where=sa.text("list_id = 0"),
        postgresql_where=sa.text("list_id = 0"),
    )
    op.create_index("ix_contact_campaign", "contact", ["campaign_id", "id"], unique=False)
    op.create_index(
        "ix_contact_deferred",
        "contact",
        ["campaign_id", "id"],
        unique=False,
        sqlite_where=sa.text("deferred"),
        postgresql_where=sa.text("deferred"),
    )
    op.create_index(
        "ix_contact_due",
        "contact",
        ["campaign_id", "list_id", "rank", "due_at", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_contact_outcome",
        "contact",
        ["campaign_id", "last_outcome", "status", "id"],
        unique=False,
        sqlite_where=sa.text("last_outcome IS NOT NULL"),
        postgresql_where=sa.text("last_outcome IS NOT NULL"),
    )
    op.create_index("ix_contact_status", "contact", ["campaign_id", "status", "id"], unique=False)
    op.create_table(
        "contact_import",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.Column("staged", sa.Boolean(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("invalid", sa.BigInteger(), nullable=False),
        sa.Column("do_not_call", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_import_campaign", "contact_import", ["campaign_id", "published_at"], unique=False)
    op.create_table(
        "contact_number",
        sa.Column("campaign_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("phone_number", TEXT, nullable=False),
        sa.Column("contact_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "phone_number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "contact_outcome",
        sa.Column("campaign_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("contacts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "outcome", "status"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "do_not_call",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("phone_number", TEXT, nullable=False),
        sa.Column("note", TEXT, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "phone_number"),
    )
    op.create_table(
        "event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("contact_id", sa.BigInteger(), nullable=True),
        sa.Column("call_id", TEXT, nullable=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=True),
        sa.Column("reason", TEXT, nullable=True),
        sa.Column("phone_number", TEXT, nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_event_campaign", "event", ["campaign_id", "seq"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("content_type", TEXT, nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key"),
    )
    op.create_index("ix_idempotency_age", "idempotency", ["created_at"], unique=False)
    op.create_table(
        "import_reject",
        sa.Column("import_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=True),
        sa.Column("column", TEXT, nullable=True),
        sa.Column("value", TEXT, nullable=True),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("import_id", "position"),
    )
    op.create_table(
        "tenant",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("settings", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tenant_day",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("day", TEXT, nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day"),
    )
    op.create_table(
        "trunk_pause",
        sa.Column("trunk", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("trunk"),
    )
