"""The tables, one schema for SQLite and PostgreSQL (SQLAlchemy Core)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from dialerd.core.outcome import Outcome

REVISION = "0004"
"""The migration that this code needs; a test holds it equal to the newest one in migrations/."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


# Compared by its bytes, as SQLite does it, whatever language the database was made for.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


class Instant(sa.types.TypeDecorator[datetime]):
    """A moment as whole microseconds since 1970 in UTC: exact, sortable, and cheap on both databases."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else from_micros(value)


class JsonText(sa.types.TypeDecorator[Any]):
    """A JSON value as text; an empty object is the empty string, for most contacts have no attributes."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:  # noqa: ARG002
        return Text

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else ""

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return json.loads(value) if value else {}


def to_micros(moment: datetime) -> int:
    """Whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The moment (aware, UTC) of so many microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def revision_of(connection: sa.Connection) -> str | None:
    """The revision that a store is at; None where it has no schema."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def _partial_index(name: str, *columns: str, where: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


metadata = sa.MetaData()

# On SQLite only INTEGER PRIMARY KEY is the row's own address; BIGINT would cost a second index.
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

agent = sa.Table(
    "agent",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=False),
    sa.Column("tenant", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("max_concurrent_calls", sa.Integer),
    sa.Column("context", Text),
    sa.Column("exten", Text),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("queue", Text),
    sa.Column("application", Text),
    sa.Column("data", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("ix_agent_name", "tenant", "name", unique=True),
)

api_key = sa.Table(
    "api_key",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=False),
    sa.Column("tenant", Text),  # NULL: a system key
    sa.Column("role", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("salt", Text, nullable=False),
    sa.Column("digest", Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

campaign = sa.Table(
    "campaign",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=False),
    sa.Column("tenant", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("description", Text),
    sa.Column("agent_id", sa.BigInteger),
    sa.Column("status", Text, nullable=False),
    sa.Column("settings", JsonText, nullable=False),
    sa.Column("keep_open", sa.Boolean, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("started_at", Instant),
    sa.Column("completed_at", Instant),
    sa.Column("reason", Text),  # why the daemon itself paused it
    sa.Column("visible", sa.Boolean, nullable=False),  # False until its upload is whole, and again once deleted
    sa.Column("hang_up", sa.Boolean, nullable=False, server_default=sa.false()),  # a stop that ends its calls as well
    sa.Index("ix_campaign_tenant", "tenant", "status", "id"),
)

OUTCOME_COLUMNS: dict[Outcome, str] = {outcome: f"outcome_{outcome.value}" for outcome in Outcome}

campaign_stats = sa.Table(
    "campaign_stats",
    metadata,
    sa.Column("campaign_id", RowId, primary_key=True, autoincrement=False),
    *(
        sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
        for name in ("pending", "originated", "connected", "completed", "failed", "cancelled")
    ),
    sa.Column("calls_placed", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("calls_withdrawn", sa.BigInteger, nullable=False, server_default="0"),  # not among those placed
    sa.Column("calls_answered", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("talk_millis", sa.BigInteger, nullable=False, server_default="0"),
    *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in OUTCOME_COLUMNS.values()),
)

# An upload. Contacts of a small one are inserted whole with list_id 0; those of a large one are staged under its own
# id and become visible when published_at is set. Its contacts' ids are above its own, and below the next upload's.
contact_import = sa.Table(
    "contact_import",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=False),
    sa.Column("campaign_id", sa.BigInteger, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("published_at", Instant),
    sa.Column("staged", sa.Boolean, nullable=False),
    sa.Column("added", sa.BigInteger, nullable=False),
    sa.Column("duplicates", sa.BigInteger, nullable=False),
    sa.Column("invalid", sa.BigInteger, nullable=False),
    sa.Column("do_not_call", sa.BigInteger, nullable=False),
    sa.Index("ix_import_campaign", "campaign_id", "published_at"),
)

import_reject = sa.Table(
    "import_reject",
    metadata,
    sa.Column("import_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("row", sa.BigInteger),
    sa.Column("column", Text),
    sa.Column("value", Text),
    sa.Column("code", Text, nullable=False),
    sa.Column("message", Text, nullable=False),
)

contact = sa.Table(
    "contact",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=False),
    sa.Column("campaign_id", sa.BigInteger, nullable=False),
    sa.Column("list_id", sa.BigInteger, nullable=False),
    sa.Column("phone_number", Text, nullable=False),
    sa.Column("first_name", Text),
    sa.Column("last_name", Text),
    sa.Column("email", Text),
    sa.Column("company", Text),
    sa.Column("timezone", Text),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),  # the priority, or CALLBACK_RANK while a callback is promised
    sa.Column("external_id", Text),
    sa.Column("attributes", JsonText, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("callee_tries", sa.Integer, nullable=False),
    sa.Column("mishaps", sa.Integer, nullable=False),
    sa.Column("outcomes", JsonText, nullable=False),
    sa.Column("last_outcome", Text),
    sa.Column("due_at", sa.BigInteger, nullable=False),  # microseconds; 0: at once
    # due_at is when a rule lets go, and no retry's time: it falls when the rules change.
    sa.Column("deferred", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("reason", Text),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Index("ix_contact_campaign", "campaign_id", "id"),
    sa.Index("ix_contact_status", "campaign_id", "status", "id"),
    # These hold few contacts, or none while a list is imported: a whole index less to be written then.
    _partial_index("ix_contact_base", "campaign_id", "list_id", "id", where="list_id = 0"),
    _partial_index(
        "ix_contact_outcome", "campaign_id", "last_outcome", "status", "id", where="last_outcome IS NOT NULL"
    ),
    _partial_index("ix_contact_deferred", "campaign_id", "id", where="deferred"),
    # What the hopper claims by: one range per rank, so that a crowd of high priority not yet due costs nothing.
    _partial_index("ix_contact_due", "campaign_id", "list_id", "rank", "due_at", "id", where="status = 'pending'"),
)

# Which contact has a number: the one place where numbers are unique within a campaign, and where they are looked up. It
# is no index of the contacts, because a large upload fills it in the order of its numbers: in the order of a file each
# entry would rewrite a page of its own.
contact_number = sa.Table(
    "contact_number",
    metadata,
    sa.Column("campaign_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("phone_number", Text, primary_key=True),
    sa.Column("contact_id", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# How many of a campaign's contacts had an outcome last, by their status: what a filtered list counts.
contact_outcome = sa.Table(
    "contact_outcome",
    metadata,
    sa.Column("campaign_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("outcome", Text, primary_key=True),
    sa.Column("status", Text, primary_key=True),
    sa.Column("contacts", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

call = sa.Table(
    "call",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("tenant", Text, nullable=False),
    sa.Column("campaign_id", sa.BigInteger, nullable=False),
    sa.Column("contact_id", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("pbx", Text, nullable=False),
    sa.Column("trunk", Text, nullable=False),
    sa.Column("agent_id", sa.BigInteger),
    sa.Column("caller_id", Text),
    sa.Column("phone_number", Text, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("outcome", Text),
    sa.Column("fault", Text),
    sa.Column("hangup_cause", sa.Integer),
    sa.Column("hangup_text", Text),
    sa.Column("sip_status", sa.Integer),
    sa.Column("hung_up_by", Text),
    sa.Column("originated_at", Instant, nullable=False),
    sa.Column("ringing_at", Instant),
    sa.Column("answered_at", Instant),
    sa.Column("handed_over_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("talk_seconds", sa.Float),
    sa.Column("recording", Text),
    sa.Column("hands_over", sa.Boolean),  # its place was a queue; NULL: placed by a version that did not note it
    sa.Index("ix_call_campaign", "campaign_id", "originated_at", "id"),
    sa.Index("ix_call_contact", "contact_id"),
    # How often a number was dialled lately, in whatever campaign: what the rules that protect people count.
    sa.Index("ix_call_number", "tenant", "phone_number", "originated_at"),
    _partial_index("ix_call_live", "pbx", where="ended_at IS NULL"),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("seq", RowId, primary_key=True, autoincrement=False),
    sa.Column("campaign_id", sa.BigInteger, nullable=False),
    sa.Column("contact_id", sa.BigInteger),
    sa.Column("call_id", Text),
    sa.Column("kind", Text, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("outcome", Text),
    sa.Column("reason", Text),
    sa.Column("phone_number", Text),
    sa.Column("at", Instant, nullable=False),
    sa.Index("ix_event_campaign", "campaign_id", "seq"),
)

do_not_call = sa.Table(
    "do_not_call",
    metadata,
    sa.Column("tenant", Text, primary_key=True),
    sa.Column("phone_number", Text, primary_key=True),
    sa.Column("note", Text),
    sa.Column("created_at", Instant, nullable=False),
)

CALLBACK_RANK = 1_000_000
"""Ahead of every priority."""

callback = sa.Table(
    "callback",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=False),
    sa.Column("campaign_id", sa.BigInteger, nullable=False),
    sa.Column("contact_id", sa.BigInteger, nullable=False),
    sa.Column("phone_number", Text, nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("note", Text),
    sa.Column("revived", sa.Boolean, nullable=False),  # it brought back a contact whose way had ended
    sa.Column("status", Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("ix_callback_due", "campaign_id", "status", "due_at", "id"),
    sa.Index("ix_callback_contact", "contact_id"),
)

tenant = sa.Table(
    "tenant",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("settings", JsonText, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

# Calls placed by a tenant on a day (UTC), counted with each commit of the journal.
tenant_day = sa.Table(
    "tenant_day",
    metadata,
    sa.Column("tenant", Text, primary_key=True),
    sa.Column("day", Text, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
)

trunk_pause = sa.Table(
    "trunk_pause",
    metadata,
    sa.Column("trunk", Text, primary_key=True),
    sa.Column("reason", Text, nullable=False),
    sa.Column("paused_at", Instant, nullable=False),
)

# Who of several daemons on one PostgreSQL database dials (store/lease.py). One row; on SQLite a file's lock says it.
lease = sa.Table(
    "lease",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),  # counted up by each that takes over
    sa.Column("holder", Text),  # NULL: given back in order
    sa.Column("taken_at", Instant, nullable=False),
)

webhook = sa.Table(
    "webhook",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=False),
    sa.Column("tenant", Text, nullable=False),
    sa.Column("campaign_id", sa.BigInteger),  # NULL: all campaigns of the tenant
    sa.Column("url", Text, nullable=False),
    sa.Column("description", Text),
    sa.Column("kinds", Text, nullable=False),  # separated by spaces; empty: all
    sa.Column("status", Text, nullable=False),
    sa.Column("disabled_reason", Text),
    sa.Column("secret", Text, nullable=False),  # whole: it signs, so that it cannot be kept as a digest
    sa.Column("old_secret", Text),
    sa.Column("old_secret_until", Instant),
    # Every event up to here is settled, or has a delivery: the journal itself is the outbox.
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("failing_since", Instant),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("ix_webhook_tenant", "tenant", "id"),
)

# What became of an event at an endpoint: written after it was tried, together with the endpoint's position.
webhook_delivery = sa.Table(
    "webhook_delivery",
    metadata,
    sa.Column("webhook_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("campaign_id", sa.BigInteger, nullable=False),
    sa.Column("contact_id", sa.BigInteger),
    sa.Column("kind", Text, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("status_code", sa.Integer),
    sa.Column("error", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("last_attempt_at", Instant),
    sa.Column("next_attempt_at", Instant),
    sa.Index("ix_delivery_status", "webhook_id", "status", "seq"),
    sqlite_with_rowid=False,
)

# The first answer to a POST that bore an Idempotency-Key; told again to whoever repeats it.
idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("tenant", Text, primary_key=True),
    sa.Column("key", Text, primary_key=True),
    sa.Column("fingerprint", Text, nullable=False),
    sa.Column("status", sa.Integer),  # NULL while the first request is being answered
    sa.Column("content_type", Text),
    sa.Column("body", sa.LargeBinary),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("ix_idempotency_age", "created_at"),
)
