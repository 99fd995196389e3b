"""What a call needs to be followed on by another process: whether a queue took it, and whether it is to be hung up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward. There is no way back: restore a backup instead."""
    op.add_column("call", sa.Column("hands_over", sa.Boolean(), nullable=True))
    op.add_column("campaign", sa.Column("hang_up", sa.Boolean(), nullable=False, server_default=sa.false()))
