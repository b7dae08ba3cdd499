"""What learns from labels: classifier, order of labeling, hard examples, groups. It runs in workloads."""
