"""Agencies, workspaces that are closed, scopes of grants, and the account's standing."""

import sqlalchemy as sa
from alembic import op

revision = "core_0002"
down_revision = "core_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "core_revoked_token",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_id"),
    )
    with op.batch_alter_table("core_revoked_token", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_core_revoked_token_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "core_agency",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("trusted_account_id", sa.String(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["core_account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["trusted_account_id"],
            ["core_account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "name"),
    )
    with op.batch_alter_table("core_agency", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_core_agency_account_id"), ["account_id"], unique=False)

    op.create_table(
        "core_enterprise_project",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["core_account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "name"),
    )
    with op.batch_alter_table("core_enterprise_project", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_core_enterprise_project_account_id"), ["account_id"], unique=False)

    op.create_table(
        "core_authorization",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("agency_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["core_account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["agency_id"],
            ["core_agency.id"],
        ),
        sa.PrimaryKeyConstraint("account_id", "user_id"),
    )
    with op.batch_alter_table("core_authorization", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_core_authorization_agency_id"), ["agency_id"], unique=False)

    op.create_table(
        "core_workspace_quota",
        sa.Column("workspace_id", sa.String(), nullable=False),
        sa.Column("plugin", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("maximum", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["core_workspace.id"],
        ),
        sa.PrimaryKeyConstraint("workspace_id", "plugin", "kind"),
    )
    op.create_table(
        "core_workspace_user",
        sa.Column("workspace_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["core_user.id"],
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["core_workspace.id"],
        ),
        sa.PrimaryKeyConstraint("workspace_id", "user_id"),
    )
    with op.batch_alter_table("core_workspace_user", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_core_workspace_user_user_id"), ["user_id"], unique=False)

    with op.batch_alter_table("core_account", schema=None) as batch_op:
        batch_op.add_column(sa.Column("security", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("auth_mode", sa.String(), nullable=False, server_default="strict"))
        batch_op.add_column(sa.Column("standing", sa.String(), nullable=False, server_default="normal"))

    with op.batch_alter_table("core_policy_grant", schema=None) as batch_op:
        batch_op.add_column(sa.Column("agency_id", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("scope", sa.String(), nullable=False, server_default="all_projects"))
        batch_op.add_column(sa.Column("enterprise_project_id", sa.String(), nullable=True))
        batch_op.alter_column("group_id", existing_type=sa.VARCHAR(), nullable=True)
        batch_op.create_index(batch_op.f("ix_core_policy_grant_agency_id"), ["agency_id"], unique=False)
        batch_op.create_foreign_key("fk_core_policy_grant_agency", "core_agency", ["agency_id"], ["id"])

    op.execute("UPDATE core_policy_grant SET scope = 'project' WHERE project_id IS NOT NULL")

    with op.batch_alter_table("core_user", schema=None) as batch_op:
        batch_op.add_column(sa.Column("description", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("email", sa.LargeBinary(), nullable=True))
        batch_op.add_column(sa.Column("phone", sa.LargeBinary(), nullable=True))
        batch_op.add_column(sa.Column("password_changed_at", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("must_change_password", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("access_mode", sa.String(), nullable=False, server_default="default"))
        batch_op.add_column(sa.Column("last_login_at", sa.BigInteger(), nullable=True))

    with op.batch_alter_table("core_workspace", schema=None) as batch_op:
        batch_op.add_column(sa.Column("description", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("owner_id", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("auth_type", sa.String(), nullable=False, server_default="PUBLIC"))
        batch_op.add_column(sa.Column("enterprise_project_id", sa.String(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("status", sa.String(), nullable=False, server_default="NORMAL"))
        batch_op.add_column(sa.Column("updated_at", sa.BigInteger(), nullable=False, server_default="0"))
