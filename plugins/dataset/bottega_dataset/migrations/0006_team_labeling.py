"""Team labeling: teams, people who label without platform accounts, tasks, what they say of samples, acceptance."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0006"
down_revision = "dataset_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_labeler",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("email", sa.LargeBinary(), nullable=False),
        sa.Column("email_index", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("must_change_password", sa.Boolean(), nullable=False),
        sa.Column("password_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("code_hash", sa.String(), nullable=True),
        sa.Column("code_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("tokens_valid_from", sa.BigInteger(), nullable=False),
        sa.Column("last_login_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "email_index"),
    )
    op.create_table(
        "dataset_labeler_login_failure",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("dataset_labeler_login_failure", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dataset_labeler_login_failure_at"), ["at"], unique=False)
        batch_op.create_index("ix_dataset_labeler_login_failure_who", ["who", "at"], unique=False)

    op.create_table(
        "dataset_team_secret",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("index_key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project_id"),
    )
    op.create_table(
        "dataset_team_mail",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("labeler_id", sa.String(), nullable=False),
        sa.Column("task_key", sa.Integer(), nullable=True),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["labeler_id"], ["dataset_labeler.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "dataset_team_task",
        sa.Column("key", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("repetition", sa.Integer(), nullable=False),
        sa.Column("auto_sync_dataset", sa.Boolean(), nullable=False),
        sa.Column("synchronize_data", sa.Boolean(), nullable=False),
        sa.Column("synchronize_auto_labeling_data", sa.Boolean(), nullable=False),
        sa.Column("conditions", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("sample_state", sa.String(), nullable=True),
        sa.Column("allocation", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("agency", sa.String(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("allocated_key", sa.BigInteger(), nullable=False),
        sa.Column("allocated", sa.BigInteger(), nullable=False),
        sa.Column("acceptance_id", sa.String(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_key"], ["dataset_dataset.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("dataset_key", "name"),
        sa.UniqueConstraint("id"),
    )
    with op.batch_alter_table("dataset_team_task", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dataset_team_task_project_id"), ["project_id"], unique=False)

    op.create_table(
        "dataset_worker",
        sa.Column("key", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("workforce_id", sa.String(), nullable=False),
        sa.Column("labeler_id", sa.String(), nullable=True),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["labeler_id"],
            ["dataset_labeler.id"],
        ),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("workforce_id", "labeler_id"),
    )
    with op.batch_alter_table("dataset_worker", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dataset_worker_labeler_id"), ["labeler_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_dataset_worker_project_id"), ["project_id"], unique=False)

    op.create_table(
        "dataset_team_acceptance",
        sa.Column("key", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("action", sa.Integer(), nullable=True),
        sa.Column("overwrite_last_result", sa.Boolean(), nullable=False),
        sa.Column("sampling_num", sa.Integer(), nullable=False),
        sa.Column("sampling_rate", sa.Float(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("sampled", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["task_key"], ["dataset_team_task.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "dataset_team_item",
        sa.Column("task_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "sample_key", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("worker_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("labels", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("base_revision", sa.Integer(), nullable=False),
        sa.Column("merged", sa.Boolean(), nullable=False),
        sa.Column("labeled_at", sa.BigInteger(), nullable=True),
        sa.Column("review_accept", sa.Boolean(), nullable=True),
        sa.Column("review_comment", sa.String(), nullable=True),
        sa.Column("review_score", sa.String(), nullable=True),
        sa.Column("reviewer", sa.String(), nullable=True),
        sa.Column("acceptance_key", sa.Integer(), nullable=True),
        sa.Column("sampled", sa.Boolean(), nullable=False),
        sa.Column("check_accept", sa.Boolean(), nullable=True),
        sa.Column("check_comment", sa.String(), nullable=True),
        sa.Column("check_score", sa.String(), nullable=True),
        sa.Column("checker", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["sample_key"], ["dataset_sample.key"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["task_key"], ["dataset_team_task.key"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["worker_key"],
            ["dataset_worker.key"],
        ),
        sa.PrimaryKeyConstraint("task_key", "sample_key", "worker_key"),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("dataset_team_item", schema=None) as batch_op:
        batch_op.create_index("ix_dataset_team_item_sample", ["sample_key"], unique=False)
        batch_op.create_index("ix_dataset_team_item_state", ["task_key", "state", "sample_key"], unique=False)
        batch_op.create_index(
            "ix_dataset_team_item_worker", ["task_key", "worker_key", "state", "sample_key"], unique=False
        )

    op.create_table(
        "dataset_team_member",
        sa.Column("task_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("email_status", sa.Integer(), nullable=False),
        sa.Column("notified_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["task_key"], ["dataset_team_task.key"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["worker_key"], ["dataset_worker.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_key", "worker_key"),
    )
