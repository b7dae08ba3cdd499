"""Data processing (rows D10): tasks that analyse, validate, clean, augment and select samples, as workloads."""
