"""The contract of the Campaigns API as facts: what clients were promised, written down apart from the code.

Whoever changes this table changes the promise. The document of the daemon is held against it, in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass

JSON, CSV, NDJSON, FORM = "application/json", "text/csv", "application/x-ndjson", "multipart/form-data"
PART = ("limit", "offset", "after")
UPLOAD = (JSON, CSV, NDJSON, FORM)

EVERYWHERE = frozenset({401, 403, 405, 413, 415, 429, 500, 503})
"""What every route may answer beside its own."""


@dataclass(frozen=True)
class Row:
    """One method on one path."""

    method: str
    path: str
    statuses: tuple[int, ...]
    query: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()
    answer: str | None = None
    """The media type of a good answer; None: it has no body."""

    @property
    def answers(self) -> frozenset[int]:
        """Every status: a query or a body may always be one that does not fit, and a POST one that was sent before."""
        unfit = {400} if self.query or self.bodies else set()
        repeated = {409} if self.method == "POST" else set()
        return EVERYWHERE | set(self.statuses) | unfit | repeated


ROWS = (
    Row("GET", "/campaigns", (200,), ("status", "agent_id", "q", "sort", "page", "per_page"), answer=JSON),
    Row("POST", "/campaigns", (201, 400), bodies=(JSON, FORM), answer=JSON),
    Row("GET", "/campaigns/{campaign_id}", (200, 404), answer=JSON),
    Row("PATCH", "/campaigns/{campaign_id}", (200, 400, 404, 409), bodies=(JSON,), answer=JSON),
    Row("DELETE", "/campaigns/{campaign_id}", (204, 404, 409)),
    Row("POST", "/campaigns/{campaign_id}/start", (200, 404, 409), answer=JSON),
    Row("POST", "/campaigns/{campaign_id}/pause", (200, 404, 409), answer=JSON),
    Row("POST", "/campaigns/{campaign_id}/resume", (200, 404, 409), answer=JSON),
    Row("POST", "/campaigns/{campaign_id}/stop", (200, 404, 409), bodies=(JSON,), answer=JSON),
    Row("POST", "/campaigns/{campaign_id}/contacts", (200, 400, 404, 409), ("on_invalid",), UPLOAD, JSON),
    Row("GET", "/campaigns/{campaign_id}/contacts", (200, 404), ("status", "outcome", "q", *PART), answer=JSON),
    Row("GET", "/campaigns/{campaign_id}/contacts/{contact_id}", (200, 404), answer=JSON),
    Row("DELETE", "/campaigns/{campaign_id}/contacts/{contact_id}", (204, 404, 409)),
    Row("GET", "/campaigns/{campaign_id}/explain", (200, 404), answer=JSON),
    Row("GET", "/campaigns/{campaign_id}/events", (200, 404), ("after",), answer="text/event-stream"),
    Row("GET", "/campaigns/{campaign_id}/calls", (200, 404), ("contact_id", "outcome", *PART), answer=JSON),
    Row("GET", "/campaigns/{campaign_id}/imports/{import_id}/rejects.csv", (200, 404), answer=CSV),
    Row("GET", "/campaigns/{campaign_id}/results.csv", (200, 404), answer=CSV),
    Row("GET", "/campaigns/{campaign_id}/callbacks", (200, 404), PART, answer=JSON),
    Row("POST", "/campaigns/{campaign_id}/callbacks", (201, 400, 404, 409), bodies=(JSON,), answer=JSON),
    Row("DELETE", "/campaigns/{campaign_id}/callbacks/{callback_id}", (204, 404)),
    Row("GET", "/agents", (200,), PART, answer=JSON),
    Row("POST", "/agents", (201,), bodies=(JSON,), answer=JSON),
    Row("GET", "/agents/{agent_id}", (200, 404), answer=JSON),
    Row("PATCH", "/agents/{agent_id}", (200, 404), bodies=(JSON,), answer=JSON),
    Row("DELETE", "/agents/{agent_id}", (204, 404, 409)),
    Row("GET", "/dnc", (200,), PART, answer=JSON),
    Row("POST", "/dnc", (200,), bodies=(JSON, CSV), answer=JSON),
    Row("DELETE", "/dnc/{number}", (204, 404)),
    Row("GET", "/trunks", (200,), PART, answer=JSON),
    Row("POST", "/trunks/{trunk_id}/pause", (200, 404), bodies=(JSON,), answer=JSON),
    Row("POST", "/trunks/{trunk_id}/resume", (200, 404), answer=JSON),
    Row("GET", "/tenants", (200,), PART, answer=JSON),
    Row("POST", "/tenants", (201, 409), bodies=(JSON,), answer=JSON),
    Row("GET", "/tenants/{tenant_id}", (200, 404), answer=JSON),
    Row("PATCH", "/tenants/{tenant_id}", (200, 404, 409), bodies=(JSON,), answer=JSON),
    Row("GET", "/keys", (200,), PART, answer=JSON),
    Row("POST", "/keys", (201,), bodies=(JSON,), answer=JSON),
    Row("DELETE", "/keys/{key_id}", (204, 404)),
    # Neither reference has webhooks: they are ours altogether.
    Row("GET", "/webhooks", (200,), PART, answer=JSON),
    Row("POST", "/webhooks", (201, 409), bodies=(JSON,), answer=JSON),
    Row("GET", "/webhooks/{webhook_id}", (200, 404), answer=JSON),
    Row("PATCH", "/webhooks/{webhook_id}", (200, 404), bodies=(JSON,), answer=JSON),
    Row("DELETE", "/webhooks/{webhook_id}", (204, 404)),
    Row("POST", "/webhooks/{webhook_id}/test", (200, 404), answer=JSON),
    Row("GET", "/webhooks/{webhook_id}/deliveries", (200, 404), ("status", *PART), answer=JSON),
    Row("POST", "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", (200, 404, 409), answer=JSON),
)

_ROW_OF_LIST = ("data", "limit", "offset", "total", "next")
_CAMPAIGN = (
    *("id", "name", "description", "agent_id", "status", "settings", "stats"),
    *("created_at", "started_at", "completed_at"),
)
_CONTACT = (
    *("id", "phone_number", "first_name", "last_name", "email", "company", "timezone", "priority"),
    *("external_id", "attributes", "status", "attempts", "last_outcome", "next_attempt_at", "updated_at"),
)
_EXPLAIN = ("dialing", "summary", "next_moment", "rules")
_AGENT = ("name", "kind", "max_concurrent_calls")
_TENANT = (
    *("max_calls_per_second", "max_concurrent_calls", "trunks", "default_agent", "default_region", "weight"),
    *("caller_ids", "allowed_prefixes", "max_calls_per_day", "max_calls_per_number", "number_period_hours"),
    "settings",
)
_KEY = ("id", "tenant", "role", "name", "created_at")
_DIALPLAN, _APPLICATION = ("context", "exten", "priority"), ("application", "data")

FIELDS: dict[str, tuple[str, ...]] = {
    "CampaignIn": ("name", "description", "agent_id", "settings"),
    "CampaignPatch": ("name", "description", "agent_id", "settings"),
    "CampaignOut": _CAMPAIGN,
    "CampaignCreated": (*_CAMPAIGN, "import"),
    "CampaignGoing": (*_CAMPAIGN, "warnings"),
    "CampaignPage": ("data", "pagination"),
    "Pagination": ("page", "per_page", "total", "total_pages"),
    "StopIn": ("hangup",),
    "CampaignSettings": (
        *("calling_hours_start", "calling_hours_end", "timezone", "concurrent_calls", "max_retries"),
        *("calling_days", "blackouts", "contact_timezone", "answer_timeout", "max_call_seconds", "retry"),
        *("caller_ids", "trunks", "max_calls_per_second", "priority", "weight", "max_attempts_per_day"),
        *("start_at", "end_at", "keep_open", "variables"),
    ),
    "RetryRule": ("delay_seconds", "factor", "most"),
    "StatsOut": (
        *("total", "pending", "originated", "connected", "completed", "failed", "cancelled"),
        *("calls_placed", "calls_in_flight", "answer_rate", "abandon_rate", "average_talk_seconds"),
        *("outcomes", "estimated_completion_at"),
    ),
    "ContactOut": _CONTACT,
    "ContactDetail": (*_CONTACT, "calls", "explain"),
    "ExplainOut": _EXPLAIN,
    "CampaignExplainOut": (*_EXPLAIN, "counts"),
    "RuleOut": ("rule", "level", "holds", "detail", "until"),
    "CountsOut": ("due", "waiting", "in_flight"),
    "ContactsIn": ("contacts", "on_invalid"),
    "ImportOut": ("import_id", "added", "duplicates", "invalid", "do_not_call", "errors"),
    "RowErrorOut": ("row", "column", "value", "code", "message"),
    "CallOut": (
        *("id", "contact_id", "attempt", "pbx", "trunk", "caller_id", "phone_number", "status", "outcome"),
        *("fault", "hangup_cause", "hangup_text", "sip_status", "hung_up_by", "originated_at", "ringing_at"),
        *("answered_at", "handed_over_at", "ended_at", "talk_seconds", "recording"),
    ),
    "DialplanAgent": (*_AGENT, *_DIALPLAN),
    "QueueAgent": (*_AGENT, "queue"),
    "ApplicationAgent": (*_AGENT, *_APPLICATION),
    "AgentPatch": (*_AGENT, *_DIALPLAN, "queue", *_APPLICATION),
    "AgentOut": ("id", *_AGENT, *_DIALPLAN, "queue", *_APPLICATION),
    "CallbackIn": ("contact_id", "phone_number", "due_at", "note"),
    "CallbackOut": ("id", "contact_id", "phone_number", "due_at", "note", "status", "created_at"),
    "DoNotCallIn": ("phone_number", "numbers", "note"),
    "DoNotCallOut": ("phone_number", "note", "created_at"),
    "DoNotCallAdded": ("added", "duplicates", "invalid", "errors"),
    "Listing_CallbackOut_": _ROW_OF_LIST,
    "Listing_DoNotCallOut_": _ROW_OF_LIST,
    "TrunkOut": (
        *("id", "pbx", "state", "reason", "channels_in_use", "max_channels", "calls_per_second"),
        *("max_calls_per_second", "answer_seizure_ratio"),
    ),
    "PauseIn": ("reason",),
    "TenantIn": ("id", *_TENANT),
    "TenantPatch": _TENANT,
    "TenantOut": ("id", *_TENANT, "configured_in_file"),
    "KeyIn": ("name", "role", "tenant"),
    "KeyOut": _KEY,
    "KeyCreated": (*_KEY, "key"),
    "Listing_TrunkOut_": _ROW_OF_LIST,
    "Listing_TenantOut_": _ROW_OF_LIST,
    "Listing_KeyOut_": _ROW_OF_LIST,
    "Listing_AgentOut_": _ROW_OF_LIST,
    "Listing_CallOut_": _ROW_OF_LIST,
    "Listing_ContactOut_": _ROW_OF_LIST,
    "WebhookIn": ("url", "description", "campaign_id", "events"),
    "WebhookPatch": ("url", "description", "events", "status", "after", "rotate_secret"),
    "WebhookOut": (
        *("id", "url", "description", "campaign_id", "events", "status", "disabled_reason", "failing_since"),
        *("created_at", "secret"),
    ),
    "DeliveryOut": (
        *("id", "event", "campaign_id", "contact_id", "status", "attempts", "status_code", "error"),
        *("created_at", "last_attempt_at", "next_attempt_at"),
    ),
    "TestOut": ("delivered", "status_code", "error", "seconds"),
    "Listing_WebhookOut_": _ROW_OF_LIST,
    "Listing_DeliveryOut_": _ROW_OF_LIST,
    "Problem": ("type", "title", "status", "detail", "code", "errors"),
    "ErrorItem": ("field", "message", "row", "column", "value", "code"),
}

WORDS: dict[str, tuple[str, ...]] = {
    "CampaignStatus": ("draft", "active", "paused", "completed", "cancelled"),
    "ContactStatus": ("pending", "originated", "connected", "completed", "failed", "cancelled"),
    "Outcome": (
        *("answered", "machine", "abandoned", "busy", "no_answer", "rejected", "invalid_number", "congestion"),
        *("unreachable", "interrupted", "cancelled", "failed"),
    ),
    "Fault": ("callee", "number", "trunk", "pbx", "daemon", "none"),
    "TrunkState": ("up", "paused", "down", "unknown"),
    "Role": ("viewer", "operator", "admin", "system"),
    "EventKind": (
        *("originated", "ringing", "connected", "completed", "failed", "cancelled", "retry_scheduled"),
        *("callback_scheduled", "campaign"),
    ),
    "WebhookStatus": ("enabled", "disabled"),
    "DeliveryStatus": ("retrying", "waiting", "delivered", "failed"),
    "AgentKind": ("dialplan", "queue", "application"),
}

_C = "/campaigns/{campaign_id}"
_REDELIVER = "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"
CODES: dict[tuple[str, int], tuple[str, ...] | None] = {
    ("campaign_not_found", 404): tuple(
        f"{row.method} {row.path}" for row in ROWS if row.path.startswith("/campaigns/{campaign_id}")
    ),
    ("agent_not_found", 404): tuple(f"{row.method} {row.path}" for row in ROWS if "{agent_id}" in row.path),
    ("agent_not_found", 400): ("POST /campaigns", f"PATCH {_C}"),
    ("campaign_already_active", 409): (f"POST {_C}/start",),
    ("campaign_not_active", 409): (f"POST {_C}/pause",),
    ("campaign_not_paused", 409): (f"POST {_C}/resume",),
    ("campaign_finished", 409): (
        *(f"POST {_C}/start", f"POST {_C}/resume", f"POST {_C}/stop"),
        *(f"PATCH {_C}", f"POST {_C}/contacts", f"POST {_C}/callbacks"),
    ),
    ("contact_not_found", 404): (
        *(f"POST {_C}/callbacks", f"GET {_C}/contacts/{{contact_id}}", f"DELETE {_C}/contacts/{{contact_id}}"),
    ),
    ("contact_not_pending", 409): (f"POST {_C}/callbacks", f"DELETE {_C}/contacts/{{contact_id}}"),
    ("callback_not_found", 404): (f"DELETE {_C}/callbacks/{{callback_id}}",),
    ("not_found", 404): ("DELETE /dnc/{number}",),
    ("import_not_found", 404): (f"GET {_C}/imports/{{import_id}}/rejects.csv",),
    ("campaign_active", 409): (f"DELETE {_C}",),
    ("no_contacts", 409): (f"POST {_C}/start",),
    ("agent_in_use", 409): ("DELETE /agents/{agent_id}",),
    ("trunk_not_found", 404): ("POST /trunks/{trunk_id}/pause", "POST /trunks/{trunk_id}/resume"),
    ("tenant_not_found", 404): ("GET /tenants/{tenant_id}", "PATCH /tenants/{tenant_id}"),
    ("key_not_found", 404): ("DELETE /keys/{key_id}",),
    ("configured_in_file", 409): ("POST /tenants", "PATCH /tenants/{tenant_id}"),
    ("idempotency_conflict", 409): tuple(f"{row.method} {row.path}" for row in ROWS if row.method == "POST"),
    ("invalid_request", 400): tuple(f"{row.method} {row.path}" for row in ROWS if row.query or row.bodies),
    ("invalid_csv", 400): ("POST /campaigns", f"POST {_C}/contacts", "POST /dnc"),
    ("webhook_not_found", 404): tuple(f"{row.method} {row.path}" for row in ROWS if "{webhook_id}" in row.path),
    ("delivery_not_found", 404): (f"POST {_REDELIVER}",),
    ("event_gone", 409): (f"POST {_REDELIVER}",),
    ("too_many_webhooks", 409): ("POST /webhooks",),
    ("too_many_keys", 409): ("POST /keys",),
    ("unauthorized", 401): None,
    ("forbidden", 403): None,
    ("method_not_allowed", 405): None,
    ("payload_too_large", 413): None,
    ("unsupported_media_type", 415): None,
    ("rate_limited", 429): None,
    ("database_error", 500): None,
    ("internal_error", 500): None,
    ("standby", 503): None,
}
"""Each code with its status, and the operations that may answer it; None: every one."""
