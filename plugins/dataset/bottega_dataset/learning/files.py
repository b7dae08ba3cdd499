"""The files a run writes into its output folder."""

REPORT, SUGGESTIONS, GROUPS, PROBLEMS = "report.json", "suggestions.jsonl", "groups.jsonl", "problems.jsonl"
