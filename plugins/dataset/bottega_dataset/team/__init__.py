"""Team labeling: teams, members without platform accounts, tasks, review and acceptance."""
